"""A server whose port is taken says so before anything is started."""

import json
import socket
from pathlib import Path

import pytest

from securefed.engine.flare.ports import require_port
from securefed.errors import ConfigurationError


def kit_for(port: int, folder: Path) -> Path:
    """As much of a server's kit as names its port."""
    place = folder / "kit" / "startup" / "fed_server.json"
    place.parent.mkdir(parents=True)
    about = {"servers": [{"service": {"target": f"fl.example.org:{port}"}}]}
    place.write_text(json.dumps(about))
    return folder / "kit"


@pytest.mark.parametrize("address", ["127.0.0.1", ""])
def test_a_port_that_is_taken_is_refused(tmp_path: Path, address: str) -> None:
    with socket.socket() as other:
        # As gRPC listens: two of its servers may share a port, and get every other connection.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((address, 0))
        other.listen()
        port = other.getsockname()[1]
        kit = kit_for(port, tmp_path)
        with pytest.raises(ConfigurationError, match=f"port {port}") as refused:
            require_port(kit)
        assert "Address already in use" in str(refused.value)
        assert f"sport = :{port}" in str(refused.value.hint)
    require_port(kit)


def test_connections_that_have_ended_are_in_nobody_s_way(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listener.accept()[0].close()  # ended by the server's side: TIME_WAIT at its port
    require_port(kit_for(port, tmp_path))
