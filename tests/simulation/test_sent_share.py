"""Runs in which a share of the shared parameters travels: bytes, replay, resume, refusals."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pydantic import ValidationError

from protocols import messages as protocol
from securefed.auditing.choices import require_auditable
from securefed.config import load
from securefed.data.load import FederatedData
from securefed.errors import ConfigurationError, RunError
from securefed.evidence import checks
from securefed.record import metrics
from securefed.run_directory import Run
from securefed.simulation import execution
from securefed.wire.messages import (
    Request,
    decode_reply,
    decode_request,
    encode,
    statement_of,
)
from tests.tiny import finish, resume, settings_with, start

settings = settings_with(
    privacy={"seeded_noise": True}, federation={"rounds": 3, "sent_share": 0.1}
)
PLAIN: dict[str, Any] = {"secure_aggregation": {"enabled": False}, "privacy": {"dp": False}}


def bytes_up(folder: Path) -> list[int]:
    return [line.bytes_up for line in metrics.read(folder).rounds]


@pytest.mark.parametrize("changes", [{}, PLAIN], ids=["dp+secure", "plain"])
def test_a_run_of_a_share_agrees_with_its_messages(
    changes: dict[str, Any], tmp_path: Path, patients: FederatedData
) -> None:
    execution.execute(settings(**changes), tmp_path / "run", data=patients)
    run = Run.open(tmp_path / "run")
    assert checks.mismatches(run) == ()
    for number, each in run.observers().replayed.rounds.items():
        assert each.summed is not None
        mean = each.summed.total.mean_update
        blocks = each.layout.blocks
        assert mean is not None
        assert blocks is not None
        assert set(np.flatnonzero(mean)) <= set(blocks.coordinates(number))
        assert np.count_nonzero(mean) > 0.5 * blocks.sent


def test_masks_cover_the_share_and_the_bytes_are_of_it(
    tmp_path: Path, patients: FederatedData
) -> None:
    lengths, sent = {}, {}
    for share in (1.0, 0.1):
        folder = tmp_path / str(share)
        simulation = start(settings(federation={"sent_share": share}), folder, patients)
        layout = simulation.hospitals["hospital-1"].trainer.layout
        finish(simulation)
        lengths[share], sent[share] = layout.words * layout.modulus_bits / 8, bytes_up(folder)
    # The last round carries nobody's next keys: the vectors of four hospitals and little else.
    saved = sent[1.0][2] - sent[0.1][2]
    assert abs(saved - 4 * (lengths[1.0] - lengths[0.1])) < 40
    assert lengths[0.1] < 0.11 * lengths[1.0]


@pytest.mark.parametrize("changes", [{}, PLAIN], ids=["dp+secure", "plain"])
def test_a_resumed_run_sends_the_same(
    changes: dict[str, Any], tmp_path: Path, patients: FederatedData
) -> None:
    whole = start(settings(**changes), tmp_path / "whole", patients)
    finish(whole)
    list(islice(start(settings(**changes), tmp_path / "parts", patients).rounds(), 1))
    again = resume(tmp_path / "parts", patients)
    finish(again)
    assert np.array_equal(again.server.shared, whole.server.shared)


def test_a_server_that_asks_for_the_whole_update_is_refused(
    tmp_path: Path, patients: FederatedData
) -> None:
    simulation = start(settings(), tmp_path / "run", patients)
    job, client = simulation.job, simulation.hospitals["hospital-1"].client
    assert job.roster is not None
    assert job.rules is not None
    lying = replace(job.rules, vector_length=job.parameters + 1)
    announced = protocol.announcement(
        lying.for_round(job.roster, 1, job.hospitals), job.roster.names
    )
    asked = Request(1, "advertise", protocol.encode(announced))
    assert decode_reply(client.handle(encode(asked))).refusal == "RulesMismatch"


def test_a_request_has_no_place_for_coordinates_and_binds_the_round_they_follow_from() -> None:
    asked = msgspec.msgpack.decode(encode(Request(1, "work", b"", True, False, b"")))
    with pytest.raises(RunError, match="malformed"):
        decode_request(msgspec.msgpack.encode([*asked, [0, 1, 2]]))
    one, two = (statement_of(Request(number, "work", b"", True)) for number in (1, 2))
    assert one != two  # masks of hospitals that were told other rounds do not cancel


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"privacy": {"placement": "distributed"}}, "shared noise covers whole gradients"),
        ({"canaries": {"count": 5}}, "canaries are whole gradients"),
        ({"federation": {"sent_share": 0}}, "greater than 0"),
    ],
)
def test_what_a_share_does_not_go_with_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        settings(**changes)


def test_the_configuration_on_the_methods_page_is_one() -> None:
    file = Path(__file__).parents[2] / "configs" / "methods" / "rand-k.yaml"
    assert load(file, {}).federation.sent_share == 0.05


def test_no_audit_takes_a_part_for_a_whole_update() -> None:
    with pytest.raises(ConfigurationError, match=r"sent_share: 0\.1"):
        require_auditable(settings())
