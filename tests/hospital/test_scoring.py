"""What the others, with the server, learn of one hospital's held-out patients.

Each test of an attack begins with what they had of exact histograms.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from securefed.data.load import FederatedData
from securefed.errors import AskedBefore, ConfigurationError, RunError
from securefed.hospital.scoring import NoisedScoring
from securefed.model.noised_scores import NOISED_COUNTS, NoisedScores, coarse
from securefed.model.scores import COUNTS, Counts
from securefed.privacy.accounting import epsilon
from securefed.privacy.counts import STEPS, CountNoise
from securefed.privacy.ledger import Ledger
from securefed.record.noised_scores import NoisedAnswer
from securefed.record.summary import HeldOut
from securefed.simulation import execution
from securefed.simulation.patients import load_data
from securefed.simulation.simulation import Simulation
from securefed.wire.contribution import ScoreLayout, Total
from securefed.wire.description import score_noise_of
from tests.hospital.lying_server import LyingServer, Refused
from tests.tiny import finish, resume, settings_with, start

VICTIM, ROUNDS = "hospital-3", 2
settings = settings_with(
    privacy={"evaluation_epsilon": 4.0, "accountant": "rdp"},
    federation={"shared": "classifier", "rounds": ROUNDS, "evaluate_every": 1},
    exposures={"record": False},
)
FINAL = 2 * ROUNDS + 1
NOISE = CountNoise(sigma=2 * STEPS)

Make = Callable[..., Simulation]


@pytest.fixture(scope="module")
def patients() -> FederatedData:
    return load_data(settings())


@pytest.fixture
def make(tmp_path: Path, patients: FederatedData) -> Make:
    def run(**privacy: object) -> Simulation:
        return start(settings(privacy=privacy), tmp_path / "run", patients)

    return run


def last_ones_counts(run: Simulation) -> tuple[NDArray[np.float64], Counts]:
    """What all others and the server have of the victim's histogram, and the histogram."""
    shared = run.job.shared.astype(np.float64)
    total = LyingServer(run).sum(FINAL, shared, train=False, evaluate=True).scores
    exact = {name: each.trainer.evaluate() for name, each in run.hospitals.items()}
    if isinstance(total, NoisedScores):
        # Each of the others kept what it answered, noise and all.
        known = [
            np.array(NoisedAnswer.read(each.folder).steps) / STEPS
            for name, each in run.hospitals.items()
            if name != VICTIM
        ]
        return total.counts - np.sum(known, axis=0), coarse(exact[VICTIM])
    assert total is not None
    others = [counts for name, counts in exact.items() if name != VICTIM]
    return (total - np.sum(others, axis=0)).astype(np.float64), exact[VICTIM]


def test_exact_all_but_one_read_the_last_ones_histogram(make: Make) -> None:
    seen, truth = last_ones_counts(make(evaluation_epsilon=None))
    assert np.array_equal(seen, truth)
    assert truth.sum() == 4


def test_noised_all_but_one_are_left_with_the_last_ones_own_noise(make: Make) -> None:
    run = make()
    noise = run.job.score_noise
    assert noise is not None
    seen, truth = last_ones_counts(run)
    left = (seen - truth) * STEPS
    assert np.allclose(left, left.round())  # noise in the ring, nothing else
    assert np.abs(left).max() > 0
    # Of 16 draws: the sum of squares is within these bounds but for 1e-6.
    assert 1.5 < np.square(left / noise.sigma).sum() < 60
    # That is what one share promises; with a hospital less in the coalition, the stated epsilon.
    assert noise.counted == 3
    assert epsilon([noise.event], 1e-3, "rdp") <= 4.0
    alone = CountNoise(noise.sigma)
    assert 4.0 < epsilon([alone.event], 1e-3, "rdp") < 9.0
    (charged,) = (each.ledger for name, each in run.hospitals.items() if name == VICTIM)
    assert charged is not None
    spent = charged.statement().evaluation()
    assert spent is not None
    assert (spent.unit, spent.noise_from) == ("held-out patient", 3)
    assert spent.counted == epsilon([noise.event], 1e-3, "rdp")
    assert charged.history() == []  # training patients are others


def test_a_server_that_lies_gets_one_answer_about_parameters_of_its_choice(make: Make) -> None:
    """Sixty-two scaled output layers read every patient's label and score when answers were exact
    and as many as asked for."""
    run = make()
    server, shared = LyingServer(run), run.job.shared.astype(np.float64)
    for number in range(ROUNDS + 1, FINAL):
        with pytest.raises(Refused) as refused:
            server.sum(number, shared, train=False, evaluate=True)
        assert refused.value.names == {"Unplanned"}
    server.sum(FINAL, 1000 * shared, train=False, evaluate=True)
    again = resume(run.directory.path)  # hospitals that forgot, were it not on disk
    with pytest.raises(Refused) as refused:
        LyingServer(again).sum(FINAL, shared, train=False, evaluate=True)
    assert refused.value.names == {"AskedBefore"}
    for hospital in again.hospitals.values():
        assert hospital.ledger is not None
        assert len(hospital.ledger.statement().evaluations) == 1


def test_the_same_question_has_the_same_answer_so_that_noise_does_not_average_out(
    make: Make,
) -> None:
    run = make()
    shared = run.job.shared.astype(np.float64)
    first = LyingServer(run).sum(FINAL, shared, train=False, evaluate=True).scores
    again = resume(run.directory.path)
    second = LyingServer(again).sum(FINAL, shared, train=False, evaluate=True).scores
    assert isinstance(first, NoisedScores)
    assert isinstance(second, NoisedScores)
    assert np.array_equal(first.counts, second.counts)
    answer = again.hospitals[VICTIM].folder / NoisedAnswer.NAME
    assert answer.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("secure", [True, False])
def test_a_run_is_scored_once_and_says_what_that_cost(tmp_path: Path, secure: bool) -> None:
    path = tmp_path / "run"
    summary = execution.execute(settings(secure_aggregation={"enabled": secure}), path)
    assert summary.evaluation_epsilon is not None
    assert 3.5 < summary.evaluation_epsilon <= 4.0
    held_out = HeldOut.read(path)
    noise = score_noise_of(settings(secure_aggregation={"enabled": secure}))
    assert noise is not None
    assert noise.counted == (3 if secure else 1)  # in the clear the server sees each
    assert held_out.noise == noise.deviation(4)
    assert sum(1 for each in (path / "hospitals").glob("*/scores.json")) == 4


def test_no_round_before_the_last_is_scored(make: Make) -> None:
    run = make()
    assert all(record.metrics is None for record in finish(run))
    final = run.evaluate()
    assert isinstance(final.scores, NoisedScores)


# ---- one hospital -------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(
        tmp_path / "ledger.sqlite",
        client="clinic",
        unit="patient",
        delta=1e-5,
        budget_epsilon=1.0,
        accountant="rdp",
    )


def scoring(folder: Path, ledger: Ledger, seed: int | None = None, most: int = 50) -> NoisedScoring:
    return NoisedScoring(
        NOISE, folder, ledger, run="run", words=NOISED_COUNTS, most=most, seed=seed
    )


def histogram() -> NDArray[np.int64]:
    counts = np.zeros(COUNTS, np.int64)
    counts[[3, COUNTS - 1]] = 20
    return counts


def test_a_crash_before_the_answer_is_on_disk_is_one_answer_more(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: NoisedAnswer, folder: Path) -> None:
        raise OSError("power")

    with monkeypatch.context() as patch:
        patch.setattr(NoisedAnswer, "write", fails)
        with pytest.raises(OSError, match="power"):
            scoring(tmp_path, ledger).answer("a", histogram)
    given = scoring(tmp_path, ledger).answer("a", histogram)
    assert np.array_equal(scoring(tmp_path, ledger).answer("a", histogram), given)
    spent = ledger.statement().evaluation()
    assert spent is not None
    assert spent.counted == epsilon([NOISE.event, NOISE.event], 1e-5, "rdp")
    assert ledger.spent() == 0  # beside training's budget


def test_seeded_answers_are_the_same_bits_and_cost_once(tmp_path: Path, ledger: Ledger) -> None:
    given = scoring(tmp_path, ledger, seed=3).answer("a", histogram)
    (tmp_path / NoisedAnswer.NAME).unlink()
    assert np.array_equal(scoring(tmp_path, ledger, seed=3).answer("a", histogram), given)
    spent = ledger.statement().evaluation()
    assert spent is not None
    assert (len(ledger.statement().evaluations), spent.epsilon) == (1, None)


@pytest.mark.parametrize(
    ("damage", "error"),
    [('"run": "other"', RunError), ('"question": "b"', AskedBefore), ('"run": 1', RunError)],
)
def test_an_answer_of_something_else_is_none(
    tmp_path: Path, ledger: Ledger, damage: str, error: type[RunError]
) -> None:
    scoring(tmp_path, ledger).answer("a", histogram)
    file = tmp_path / NoisedAnswer.NAME
    key = damage.split(":")[0]
    lines = [
        f"  {damage}," if line.strip().startswith(key) else line
        for line in file.read_text().splitlines()
    ]
    file.write_text("\n".join(lines))
    with pytest.raises(error):
        scoring(tmp_path, ledger).answer("a", histogram)
    assert len(ledger.statement().evaluations) == 1


def test_what_a_count_cannot_carry_is_refused_before_anything_is_spent(
    tmp_path: Path, ledger: Ledger
) -> None:
    with pytest.raises(RunError, match="more than 10 patients in one count"):
        scoring(tmp_path, ledger, most=10).answer("a", histogram)
    assert ledger.statement().evaluation() is None


# ---- the sum ------------------------------------------------------------------------------------


def test_sums_of_noised_counts_decode_and_nothing_wraps() -> None:
    layout = ScoreLayout(clients=4, max_patients=10_000, noise=NOISE)
    rows = np.array([[-300] * 16, [10_000 * STEPS] * 16, [10_000 * STEPS] * 16, [7] * 16])
    words = np.sum([layout.encode(row) for row in rows], axis=0, dtype=np.uint32)
    total = layout.decode(np.asarray(words))
    scores = total.scores
    assert isinstance(scores, NoisedScores)
    assert np.allclose(scores.counts, rows.sum(axis=0) / STEPS)
    assert layout.possible(total, 4)
    assert scores.deviation == 4.0


def test_what_no_hospitals_add_up_to_is_none() -> None:
    layout = ScoreLayout(clients=4, max_patients=100, noise=NOISE)
    for count in (-49.0, 449.0):
        counts = np.zeros(NOISED_COUNTS)
        counts[5] = count
        assert not layout.possible(Total(scores=NoisedScores(counts, 4.0)), 4)
        counts[5] *= 0.97
        assert layout.possible(Total(scores=NoisedScores(counts, 4.0)), 4)


def test_counts_that_would_wrap_are_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigurationError, match="do not fit 32 bits"):
        ScoreLayout(clients=100, max_patients=1_000_000, noise=NOISE)


@pytest.mark.parametrize(
    ("federation", "secure", "colluding", "counted"),
    [
        ({"clients": 4}, {}, 1, 3),
        ({"clients": 10}, {}, 3, 7),
        ({"clients": 4}, {}, 2, 1),  # masks do not withstand two of four
        ({"clients": 2}, {"allow_two_party": True}, 1, 1),
        ({"clients": 4}, {"enabled": False}, 1, 1),
        ({"clients": 70}, {"graph": "sparse"}, 1, 1),
    ],
)
def test_noise_of_others_counts_where_masks_open_over_everybody_or_not_at_all(
    federation: dict[str, int], secure: dict[str, object], colluding: int, counted: int
) -> None:
    chosen = settings(
        federation=federation, secure_aggregation=secure, privacy={"colluding": colluding}
    )
    noise = score_noise_of(chosen)
    assert noise is not None
    assert noise.counted == counted
