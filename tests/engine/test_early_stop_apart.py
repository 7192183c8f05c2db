"""Early stop among hospitals in folders of their own: the same server decides, from like totals.

Without differential privacy: a site's policy has no word that lets exact scores leave with it.
"""

from pathlib import Path

import numpy as np
import pytest

from securefed.evidence import checks
from securefed.model.sharing import flatten
from securefed.record import memberships, model_file
from securefed.record.summary import Summary
from securefed.run_directory import Run
from securefed.wire.hello import is_hello
from securefed.wire.messages import decode_request
from securefed.wire.transport import Handler
from tests.engine.four_sites import NAMES, Four, make_four, settings

ROUNDS = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("patients")


@pytest.fixture
def four(tmp_path: Path, data: Path) -> Four:
    chosen = settings(
        privacy={"dp": False},
        federation={"rounds": ROUNDS, "evaluate_every": 1, "patience": 2},
    )
    return make_four(tmp_path, data, chosen, {"differential_privacy": False})


def model_of(folder: Path, four: Four) -> np.ndarray:
    return flatten(model_file.read(folder), four.agreement.job(1).shared_names)


def test_everybody_ends_with_the_best_model_and_trains_no_more(four: Four) -> None:
    summary = four.play()
    assert summary is not None
    run = Run.open(four.server)
    checks.require(run)
    curve = run.metrics.curve
    rounds, aucs = zip(*curve, strict=True)
    assert summary.rounds < ROUNDS
    assert summary.chosen_after == rounds[int(np.argmax(aucs))]
    assert any("training ends early" in line for line in four.told["server"])
    for name in NAMES:
        checks.require(Run.open(four.run_of(name)))
        assert np.array_equal(model_of(four.run_of(name), four), model_of(four.server, four))
        assert Run.open(four.run_of(name)).trained == summary.rounds


def test_who_is_lost_before_the_best_model_is_sent_out_has_it_from_another_job(
    four: Four,
) -> None:
    members = four.members()
    handlers: dict[str, Handler] = {name: each.handle for name, each in members.items()}
    handlers["west"] = without(handlers["west"], four.agreement.job(1).plan.final.number)
    assert four.serve(handlers) is None
    for each in members.values():
        each.close()
    trained = {name: memberships.trained(jobs) for name, jobs in jobs_of(four).items()}
    summary = four.play()
    assert isinstance(summary, Summary)
    assert summary.auc is not None
    assert trained == dict.fromkeys(NAMES, summary.rounds)
    for name, jobs in jobs_of(four).items():
        assert memberships.trained(jobs) == summary.rounds  # in the other job too
        assert np.array_equal(model_of(four.run_of(name), four), model_of(four.server, four))


def jobs_of(four: Four) -> dict[str, Path]:
    return {name: site.jobs(four.agreement.run) for name, site in four.sites.items()}


def without(honest: Handler, number: int) -> Handler:
    """A hospital that is gone when a step comes."""

    def handle(data: bytes) -> bytes:
        if not is_hello(data) and decode_request(data).round == number:
            raise ConnectionError
        return honest(data)

    return handle
