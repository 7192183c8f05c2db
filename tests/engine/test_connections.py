"""Who is let into a federation, and as what: a server of NVIDIA FLARE's, and those who try."""

import json
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from securefed.engine.flare import places
from securefed.errors import ConfigurationError
from securefed.hospital.keys import IDENTITY
from securefed.hospital.member import Member
from securefed.hospital.site import open_site
from securefed.wire import hello
from securefed.wire.hello import Hello
from tests.engine.four_sites import Four, make_four

if find_spec("nvflare") is None:
    pytest.skip("nvflare is not installed (extra `engine`)", allow_module_level=True)

from nvflare.apis.fl_exception import FLCommunicationError
from nvflare.fuel.flare_api.api_spec import AuthorizationError
from nvflare.fuel.flare_api.flare_api import new_secure_session

from securefed.engine.flare import processes
from securefed.engine.flare.ports import require_port
from securefed.engine.flare.provisioning import LEAD
from tests.engine.machines import clock_ahead, connect, running, wait_until

pytestmark = pytest.mark.slow

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # RFC 9113, 3.4


@dataclass
class Open:
    """A federation whose server's program runs, with a session of its lead's."""

    four: Four
    others: Four
    port: int
    session: Any

    def kit(self, name: str) -> Path:
        return places.kit(self.four.sites[name].folder)

    def connected(self) -> tuple[str, ...]:
        return processes._connected(self.session, self.four.server)

    def log(self) -> str:
        return (self.four.server / "engine" / "program.log").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    folder = tmp_path_factory.mktemp("connections")
    four = make_four(folder / "ours", folder / "patients")
    others = make_four(folder / "others", folder / "patients")
    port = connect(four)
    connect(others)
    with processes.server_program(four.server):
        session = processes._session(four.server, lambda: None)
        try:
            yield Open(four, others, port, session)
        finally:
            session.close()


def answered(server: Open, kit: Path | None) -> bool:
    """Whether the server talks to who connects with the certificate of a kit, or with none."""
    startup = server.kit("west") / "startup"
    context = ssl.create_default_context(cafile=str(startup / "rootCA.pem"))
    context.set_alpn_protocols(["h2"])
    if kit:
        context.load_cert_chain(kit / "startup" / "client.crt", kit / "startup" / "client.key")
    try:
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(PREFACE)
            return bool(secured.recv(9))
    except (ssl.SSLError, ConnectionError):
        return False


def test_who_has_no_certificate_of_the_authority_is_not_talked_to(server: Open) -> None:
    assert answered(server, server.kit("west"))  # who has one is
    assert not answered(server, None)
    assert not answered(server, places.kit(server.others.sites["west"].folder))


def pretend(server: Open, folder: Path, certificate: Path, name: str) -> Path:
    """A site's folder of this name, with somebody else's certificate."""
    shutil.copytree(places.kit(server.four.sites["west"].folder), places.kit(folder))
    place = places.kit(folder) / "startup" / "fed_client.json"
    about = json.loads(place.read_text())
    about["client"]["fqsn"] = name
    place.write_text(json.dumps(about))
    for kind in ("crt", "key"):
        shutil.copy(certificate / "startup" / f"client.{kind}", place.with_name(f"client.{kind}"))
    return folder


def test_a_certificate_is_good_for_its_own_name_and_its_own_role(
    server: Open, tmp_path: Path
) -> None:
    kits = {"hospital": server.kit("west"), "lead": places.lead(server.four.server)}
    programs = [
        processes.client_program(server.four.sites["south"].folder, "south"),
        processes.client_program(pretend(server, tmp_path / "1", kits["hospital"], "east"), "east"),
        processes.client_program(pretend(server, tmp_path / "2", kits["lead"], "north"), "north"),
    ]
    try:
        wait_until(lambda: "south" in server.connected(), "who is who it says")
        for owner in ("west", LEAD):  # thrown out, and back, and thrown out
            line = f"SSL {owner}] is created"
            wait_until(partial(lambda line: server.log().count(line) >= 2, line), owner)
        assert server.connected() == ("south",)
        # FLARE tells why in a log without texts: who is connected must be what it says it is.
        assert server.log().count("Error processing frame") >= 2
    finally:
        for program in programs:
            processes.stop(program)


def test_a_hospital_s_certificate_leads_nobody(server: Open, tmp_path: Path) -> None:
    lead = Path(shutil.copytree(places.lead(server.four.server), tmp_path / "lead"))
    for kind in ("crt", "key"):
        shutil.copy(server.kit("east") / "startup" / f"client.{kind}", lead / "startup")
    with pytest.raises(FLCommunicationError):
        new_secure_session(LEAD, str(lead), timeout=10.0)
    # In its own name it may log in, and may do nothing.
    # Closed, since an open session's threads keep this process from ending.
    with (
        closing(new_secure_session("east", str(lead), timeout=10.0)) as session,
        pytest.raises(AuthorizationError, match="'east' is not authorized"),
    ):
        session.get_system_info()


def test_a_port_that_is_served_is_taken(server: Open) -> None:
    with pytest.raises(ConfigurationError, match=f"port {server.port}, which"):
        require_port(places.kit(server.four.server))


@pytest.mark.parametrize("whose", ["its own", "another hospital's"])
def test_a_certificate_without_the_key_of_the_roster_joins_nothing(
    server: Open, tmp_path: Path, whose: str
) -> None:
    ours = server.four.sites["west"].folder
    folder = Path(shutil.copytree(ours, tmp_path / "site"))
    if whose == "its own":
        shutil.copy(server.others.sites["west"].folder / IDENTITY, folder)
    else:
        shutil.copy(server.four.sites["east"].folder / IDENTITY, folder)
    told: list[str] = []
    member = Member(open_site(folder), told.append)
    asked = hello.encode_hello(Hello(server.four.agreement.digest, 1, 0))
    while (answer := hello.decode_presence(member.handle(asked))).state == "opening":
        pass
    member.close()
    assert (answer.state, answer.reason) == ("refused", "ConfigurationError")
    assert "does not hold the identity key of west" in told[-1]


def test_rights_and_classes_are_cut_down_to_what_is_needed(server: Open) -> None:
    local = places.kit(server.four.server) / "local"
    allowed = json.loads((local / "resources.json").read_text())["class_allow_list"]
    assert all(each.startswith("securefed.engine.flare.") for each in allowed)
    rights = json.loads((local / "authorization.json").read_text())["permissions"]
    assert set(rights) == {"lead"}
    none = ("byoc", "shell_commands", "download_job", "operate")
    assert {rights["lead"][each] for each in none} == {"none"}


def test_a_machine_whose_clock_is_days_behind_says_so(server: Open, tmp_path: Path) -> None:
    wrong = clock_ahead(hours=-48)
    if not wrong:
        pytest.skip("libfaketime is not installed (.ci/run installs it)")
    north = server.four.sites["north"].folder
    with running("client", north, printed=tmp_path / "out", environment=wrong) as command:
        assert command.process.wait(60) == 2
    assert "client.crt is valid from" in command.text
    assert "hint: set this machine's clock right" in command.text
