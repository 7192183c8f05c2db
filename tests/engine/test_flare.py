"""Real processes, mutual TLS, NVIDIA FLARE: the run of one process, apart; and its faults."""

import json
import os
import signal
import socket
import ssl
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from securefed.engine.flare import places
from securefed.record import memberships, model_file
from securefed.record.summary import Summary
from tests.engine.four_sites import NAMES, Four, make_four, patients_of, settings
from tests.tiny import finish, start

if find_spec("nvflare") is None:
    pytest.skip("nvflare is not installed (extra `engine`)", allow_module_level=True)

from tests.engine.machines import (
    Command,
    connect,
    finished,
    job_of,
    rounds_of,
    running,
    wait_until,
)

pytestmark = pytest.mark.slow


def everybody(four: Four, stack: ExitStack) -> dict[str, Command]:
    """Every hospital's command, started."""
    return {
        name: stack.enter_context(
            running("client", site.folder, printed=four.folder / f"{name}.out")
        )
        for name, site in four.sites.items()
    }


def served(four: Four, stack: ExitStack, name: str = "server.out") -> Command:
    return stack.enter_context(
        running("server", four.server, "--wait", "20", printed=four.folder / name)
    )


def test_apart_on_machines_the_model_is_bit_equal_and_the_server_holds_nothing_of_patients(
    tmp_path: Path,
) -> None:
    four = make_four(tmp_path, tmp_path / "patients", settings(seed=5))
    connect(four)
    with ExitStack() as stack:
        everybody(four, stack)
        server = served(four, stack)
        assert server.process.wait(300) == 0, server.text
    alone = start(four.agreement.job(1).settings, tmp_path / "run", data=patients_of(four))
    finish(alone)
    (place,) = four.server.glob("checkpoint-*.safetensors")
    assert np.array_equal(load_file(place)["shared"], alone.server.shared)
    assert Summary.read(four.server).survivors_by_round == (4, 4, 4)
    for site in four.sites.values():
        folder = site.run(four.agreement.run)
        assert memberships.read(site.jobs(four.agreement.run))[-1].outcome == "finished"
        assert (folder / model_file.NAME).is_file()
    markers = [b"patients/", str(tmp_path / "patients").encode(), b"_s000", b"manifest.csv"]
    for path in four.server.rglob("*"):
        if path.is_file() and "authority" not in path.parts:
            content = path.read_bytes()
            assert not [each for each in markers if each in content], path


def test_jobs_sites_and_the_server_are_killed_and_the_run_comes_to_its_end(tmp_path: Path) -> None:
    rounds = 60
    chosen = settings(federation={"rounds": rounds, "timeout_s": 15.0})
    four = make_four(tmp_path, tmp_path / "patients", chosen)
    connect(four)
    with ExitStack() as stack:
        hospitals = everybody(four, stack)
        server = served(four, stack)
        wait_until(lambda: finished(four.server) >= 3, "three rounds")

        # A hospital's job dies; its site is there, and rejoins at a boundary.
        job = job_of(hospitals["west"].process.pid)
        assert job is not None
        os.kill(job, signal.SIGKILL)
        wait_until(lambda: memberships.newest(four.server) >= 2, "a second job")
        wait_until(lambda: together(four, 2), "all four again")

        # A whole site loses its power, and starts again.
        hospitals["north"].kill()
        again = ("client", four.sites["north"].folder)
        stack.enter_context(running(*again, printed=tmp_path / "north-again.out"))
        before = memberships.newest(four.server)
        wait_until(lambda: memberships.newest(four.server) > before, "another job")
        wait_until(lambda: together(four, before + 1), "all four again")

        # The server loses its power within a round, and starts again.
        server.kill()
        reached = finished(four.server)
        server = served(four, stack, "server-again.out")
        assert server.process.wait(600) == 0, server.text
    summary = Summary.read(four.server)
    assert summary.rounds == rounds
    assert summary.rounds_aborted == 0
    assert finished(four.server) == rounds > reached
    assert min(summary.survivors_by_round) >= 3
    assert summary.survivors_by_round[-1] == 4
    for name, site in four.sites.items():
        attempts = site.ledger().statement().attempts(four.agreement.run)
        # Seeded noise: a round that is trained again from the same state releases nothing new.
        assert max(attempts.values()) <= 2, name
        assert len(attempts) >= rounds - 10
        ended = memberships.read(site.jobs(four.agreement.run))
        assert ended[-1].outcome == "finished"
        assert len({each.number for each in ended}) == sum(
            each.outcome == "joined" for each in ended
        )


def together(four: Four, job: int) -> bool:
    """Whether a job has had a round of all hospitals."""
    joined = [each for each in memberships.read(four.server) if each.number >= job]
    if not joined:
        return False
    lines = rounds_of(four.server)
    return any(
        len(line.survivors) == len(NAMES) for line in lines if line.round > joined[0].finished
    )


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # RFC 9113, 3.4


def answered(port: int, kit: Path | None, authority: Path) -> bool:
    """Whether the server talks to who connects with the certificate of a kit, or with none."""
    context = ssl.create_default_context(cafile=str(authority / "startup" / "rootCA.pem"))
    context.set_alpn_protocols(["h2"])
    if kit:
        context.load_cert_chain(kit / "startup" / "client.crt", kit / "startup" / "client.key")
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(PREFACE)
            return bool(secured.recv(9))
    except (ssl.SSLError, ConnectionError):
        return False


def test_who_has_no_certificate_of_the_authority_is_not_talked_to(tmp_path: Path) -> None:
    four = make_four(tmp_path / "ours", tmp_path / "patients")
    other = make_four(tmp_path / "others", tmp_path / "patients")
    connect(four)
    connect(other)
    ours, theirs = (places.kit(each.sites["west"].folder) for each in (four, other))
    target = json.loads((ours / "startup" / "fed_client.json").read_text())["servers"][0]
    port = int(target["service"]["target"].rpartition(":")[2])
    with ExitStack() as stack:
        server = served(four, stack)
        wait_until(lambda: answered(port, ours, ours), "the server")  # who has one is talked to
        assert not answered(port, None, ours)
        assert not answered(port, theirs, ours)
        assert server.stop() == 130
        assert "every finished round is on disk" in server.text
    hosts = places.kit(four.server) / "local"
    allowed = json.loads((hosts / "resources.json").read_text())["class_allow_list"]
    assert all(each.startswith("securefed.engine.flare.") for each in allowed)
    rights = json.loads((hosts / "authorization.json").read_text())["permissions"]
    assert set(rights) == {"lead"}
    assert {rights["lead"][each] for each in ("byoc", "shell_commands", "download_job")} == {"none"}
