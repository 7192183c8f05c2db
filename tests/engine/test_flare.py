"""Real processes, mutual TLS, NVIDIA FLARE: the run of one process, apart, and watched.

One run is played, over a way that is slow, in a network of its own where the machine allows one.
Each test is a claim about it.
"""

import csv
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from securefed.hospital.keys import IDENTITY
from securefed.record import memberships, model_file
from securefed.record.summary import Summary
from tests.engine.four_sites import Four, make_four, patients_of, settings
from tests.tiny import finish, start

if find_spec("nvflare") is None:
    pytest.skip("nvflare is not installed (extra `engine`)", allow_module_level=True)

from tests.engine.machines import Orders, connect, dial, everybody, served
from tests.engine.networks import Network, Passed, Seen, network, proxy

pytestmark = pytest.mark.slow

DELAY_S = 0.02  # each way


@dataclass
class Played:
    """A run that has been played, and what was seen of it.

    Attributes:
        port, way: the server's, and the proxy's before it, which hospitals dial.
        words: that are on no wire: see `planted`.
        seen: None where this machine lets nobody have a network of their own.
        watched: below TLS.
    """

    four: Four
    port: int
    way: int
    words: tuple[str, ...]
    passed: Passed
    seen: Seen | None
    watched: Orders


def planted(four: Four) -> tuple[str, ...]:
    """Names of patients, paths, keys, and what only messages hold."""
    words = [four.agreement.digest, "manifest.csv", "_s000"]  # the first in every hello
    for name, site in four.sites.items():
        place = four.folder / "patients" / name
        with (place / "manifest.csv").open() as table:
            words += {row["patient_id"] for row in csv.DictReader(table)}
        words.append(str(place))
        words.append((site.folder / IDENTITY).read_text().splitlines()[1])
        words.append(place.with_name(f"{name}.site-key").read_text().strip())
    return tuple(words)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("apart")
    four = make_four(folder, folder / "patients", settings(seed=5))
    port, words = connect(four), planted(four)
    watched = Orders(folder / "watched", (four.agreement.digest,))
    with ExitStack() as stack:
        net: Network | None = stack.enter_context(network())
        inside = net.inside if net else []
        with (
            net.watched(*words) if net else nullcontext(),
            proxy(port, DELAY_S, inside) as way,
            ExitStack() as programs,
        ):
            for site in four.sites.values():
                dial(site.folder, way.port)
            how: dict[str, Any] = {"environment": watched.environment, "inside": inside}
            everybody(four, programs, **how)
            server = served(four, programs, **how)
            assert server.process.wait(300) == 0, server.text
    assert way.passed
    return Played(four, port, way.port, words, way.passed, net.seen if net else None, watched)


def test_the_model_is_bit_equal_to_that_of_one_process(played: Played, tmp_path: Path) -> None:
    four = played.four
    alone = start(four.agreement.job(1).settings, tmp_path / "run", data=patients_of(four))
    finish(alone)
    (place,) = four.server.glob("checkpoint-*.safetensors")
    assert np.array_equal(load_file(place)["shared"], alone.server.shared)
    assert Summary.read(four.server).survivors_by_round == (4, 4, 4)
    for site in four.sites.values():
        folder = site.run(four.agreement.run)
        assert memberships.read(site.jobs(four.agreement.run))[-1].outcome == "finished"
        assert (folder / model_file.NAME).is_file()


def test_nothing_of_patients_and_no_key_is_in_the_server_s_folder_or_a_log_of_flare_s(
    played: Played,
) -> None:
    four = played.four
    secret = [word.encode() for word in played.words if word != four.agreement.digest]
    folders = [four.server, *(site.folder / "engine" for site in four.sites.values())]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len([path for path in files if path.name.startswith("log")]) >= 5
    for path in files:
        content = path.read_bytes()
        assert not [word for word in secret if word in content], path


def test_all_that_passes_between_machines_is_tls_and_the_delay_costs_no_hospital_a_round(
    played: Played,
) -> None:
    assert played.passed.clear == []
    assert played.passed.connections >= 2 * len(played.four.sites)  # each site's, and each job's
    assert played.passed.bytes > 100_000


def test_below_tls_messages_are_encrypted_from_end_to_end(played: Played) -> None:
    for number, word in enumerate(played.watched.words):
        assert (played.watched.folder / f"given.{number}").exists(), word
        assert not (played.watched.folder / f"sent.{number}").exists(), word


@pytest.fixture
def seen(played: Played) -> Seen:
    if played.seen is None:
        pytest.skip("this machine lets nobody have a network of their own")
    return played.seen


def test_nobody_dials_or_listens_beside_the_configured_port_but_within_a_machine(
    played: Played, seen: Seen
) -> None:
    loopback = ("127.0.0.1", "::1")
    assert {protocol for protocol, _, _ in seen.dialled} == {6}  # TCP: no name is looked up
    assert {address for _, address, _ in seen.dialled} <= set(loopback)
    outside = {port for address, port in seen.listened if address not in loopback}
    assert outside == {played.port}
    ports = {port for _, _, port in seen.dialled}
    assert {played.port, played.way} <= ports
    assert ports <= {port for _, port in seen.listened}


def test_no_planted_word_is_on_the_wire(seen: Seen) -> None:
    assert seen.found == []
    assert seen.bytes > 200_000
