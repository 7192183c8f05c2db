"""A real Orthanc on the loopback address, and a proxy before it that counts, holds and kills.

Orthanc runs as a process of the test, with folders of its own and without a service manager.
"""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
PLUGINS = Path("/usr/share/orthanc/plugins")
needs_orthanc = pytest.mark.skipif(
    PROGRAM is None or not (PLUGINS / "libOrthancDicomWeb.so").exists(),
    reason="Orthanc with its DICOMweb plug-in is not installed",
)
USER, PASSWORD = "reader", "loud-secret-7"


@dataclass
class Orthanc:
    """A running server; `process` may be ended and `start`ed again on the same folders."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def start(self) -> None:
        settings = {
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")],
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (self.folder / "orthanc.json").write_text(json.dumps(settings))
        with (self.folder / "log").open("ab") as log:
            line = [str(PROGRAM), str(self.folder / "orthanc.json")]
            self.process = subprocess.Popen(line, stdout=log, stderr=log)
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def store(self, files: Sequence[Path]) -> None:
        """By its own interface, not by what is tested."""
        secret = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        for file in files:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            head = {"Authorization": f"Basic {secret}"}
            connection.request("POST", "/instances", file.read_bytes(), head)
            assert connection.getresponse().status == 200
            connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """An empty server for as long as the block lasts."""
    folder.mkdir()
    server = Orthanc(folder, free_port())
    try:
        server.start()
        yield server
    finally:
        server.kill()


@dataclass
class Proxy:
    """Passes requests on, and remembers those for images.

    Attributes:
        images: path of each image that was asked for, in order.
        before: called with the number of images so far, before one is passed on.
    """

    port: int
    scheme: str = "http"
    images: list[str] = field(default_factory=list)
    before: Callable[[int], None] = lambda number: None

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/dicom-web"


@contextmanager
def before(server: Orthanc, tls: Path | None = None) -> Iterator[Proxy]:
    """A proxy before a server; `tls` is a file with its key and certificate."""
    proxy = Proxy(0, "https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            steps = self.path.split("?")[0].split("/")
            if len(steps) > 7 and steps[-2] == "instances":
                proxy.images.append(self.path)
                proxy.before(len(proxy.images))
            behind = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            try:
                behind.request("GET", self.path, headers=dict(self.headers))
                answer = behind.getresponse()
                body = answer.read()
            except OSError:
                self.close_connection = True
                return
            finally:
                behind.close()
            self.send_response(answer.status)
            for name in ("Content-Type", "Content-Encoding", "WWW-Authenticate"):
                if answer.headers.get(name):
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen of the tests."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that was killed leaves a broken pipe."""

    with Server(("127.0.0.1", 0), Handler) as listener:
        proxy.port = listener.server_address[1]
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            # The handshake is that of a thread's first reading: a refused one stops no other.
            listener.socket = context.wrap_socket(
                listener.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown()
            thread.join()
