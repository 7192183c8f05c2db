"""A survey in one process: exact but for its noise, paid for before, given once, by everybody."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocols.identity import IdentityKey
from securefed.data.load import FederatedData
from securefed.errors import (
    BudgetExceeded,
    ConfigurationError,
    PrivacyError,
    RoundAborted,
)
from securefed.hospital import one_answer
from securefed.hospital.patients import participants
from securefed.hospital.survey import counted, open_survey
from securefed.model.survey import Form
from securefed.privacy.accounting import epsilon
from securefed.privacy.counts import STEPS
from securefed.privacy.ledger import Ledger
from securefed.record.noised_scores import SurveyAnswer
from securefed.record.survey import SurveyFile
from securefed.server.survey import ask
from securefed.simulation.in_process import InProcessTransport
from securefed.simulation.patients import load_data
from securefed.simulation.survey import conduct
from securefed.wire import messages
from securefed.wire.messages import Request
from securefed.wire.survey import SurveyJob, survey_job
from securefed.wire.transport import Handler
from tests.tiny import settings_with

settings = settings_with(privacy={"accountant": "rdp", "seeded_noise": True})
FORM = Form.of(("ct", "mri"))
EPSILON = 2.0


def silent(text: str) -> None:
    """Nobody is told."""


@pytest.fixture(scope="module")
def data() -> FederatedData:
    return load_data(settings())


KEYS = {f"hospital-{n}": IdentityKey.from_seed(bytes([n] * 32)) for n in range(1, 5)}


@pytest.fixture
def job() -> SurveyJob:
    public = {name: key.public for name, key in KEYS.items()}
    return survey_job(settings(), "survey", EPSILON, public)


def ledger(folder: Path, name: str, budget: float = EPSILON, unit: str = "patient") -> Ledger:
    return Ledger.create(
        folder / f"{name}.sqlite",
        client=name,
        unit=unit,  # type: ignore[arg-type]
        delta=1e-3,
        budget_epsilon=budget,
        accountant="rdp",
    )


def handlers(folder: Path, job: SurveyJob, data: FederatedData) -> dict[str, Handler]:
    """Every hospital of a survey, in folders of its own."""
    return {
        each.name: open_survey(
            job,
            folder / each.name,
            each,
            participants(each, data.key),
            KEYS[each.name],
            ledger(folder, each.name),
        ).handle
        for each in data.hospitals
    }


def test_the_sum_is_exact_but_for_the_noise_that_each_hospital_added(
    tmp_path: Path, data: FederatedData
) -> None:
    found = conduct(settings(), EPSILON, tmp_path, silent, data=data)
    noise = np.zeros(FORM.words, np.int64)
    truth = np.zeros(FORM.words, np.int64)
    for each in data.hospitals:
        exact = counted(FORM, [*each.train, *each.test])
        truth += exact
        noise += np.array(SurveyAnswer.read(tmp_path / "hospitals" / each.name).steps) - exact
    told = found.patients["all"].value * STEPS
    assert told == pytest.approx(int((truth + noise)[:6].sum()))
    assert truth[:6].sum() == 56 * STEPS
    assert noise.any()
    assert SurveyFile.read(tmp_path) == found


def test_noise_is_as_large_as_stated(tmp_path: Path, data: FederatedData, job: SurveyJob) -> None:
    """Of 4 x 38 draws: the mean square is within .5 to 1.7 of the variance but for 1e-6."""
    ask(job, InProcessTransport(handlers(tmp_path, job, data)), tmp_path, "phantom")
    squares = [
        np.square(
            (np.array(SurveyAnswer.read(tmp_path / each.name).steps) - exact) / job.noise.sigma
        ).mean()
        for each in data.hospitals
        for exact in [counted(FORM, [*each.train, *each.test])]
    ]
    assert 0.5 < np.mean(squares) < 1.7


def test_what_it_costs_is_what_was_asked_for_and_its_event_says_the_sensitivity(
    job: SurveyJob,
) -> None:
    event = job.noise.event
    assert (event.sample_rate, event.steps, event.noise_from) == (1.0, FORM.changed, 3)
    assert 0.9 * EPSILON < epsilon([event], 1e-3, "rdp") <= EPSILON


def test_epsilon_is_in_the_ledger_before_noise_is_drawn(
    tmp_path: Path, data: FederatedData, job: SurveyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead(Exception):
        """The hospital dies here."""

    def die(*_: object, **__: object) -> None:
        raise Dead

    monkeypatch.setattr(one_answer, "SeededSource", die)
    ours = handlers(tmp_path, job, data)
    with pytest.raises(RoundAborted):
        ask(job, InProcessTransport(ours), tmp_path, "")
    for name in KEYS:
        paid = Ledger.open(tmp_path / f"{name}.sqlite")
        assert paid.history() == [job.noise.event]
        assert paid.largest().counted <= EPSILON
        assert not (tmp_path / name / SurveyAnswer.NAME).exists()


def test_every_patient_pays_also_who_would_be_held_out(
    tmp_path: Path, data: FederatedData, job: SurveyJob
) -> None:
    ask(job, InProcessTransport(handlers(tmp_path, job, data)), tmp_path, "")
    first = data.hospitals[0]
    paid = Ledger.open(tmp_path / f"{first.name}.sqlite")
    (trained, held_out) = participants(first, data.key).enrolments("survey")
    assert trained.count + held_out.count == len(first.train) + len(first.test)
    again = replace(job.noise.event, steps=1)
    with pytest.raises(BudgetExceeded):
        paid.enrol("run", participants(first, data.key), planned=[again])
    with pytest.raises(BudgetExceeded):
        paid.enrol("run", participants(first, data.key), scored=[again])


def test_a_budget_that_does_not_hold_it_refuses_before_anything_is_counted(
    tmp_path: Path, data: FederatedData, job: SurveyJob
) -> None:
    first = data.hospitals[0]
    small = ledger(tmp_path, first.name, budget=0.9 * EPSILON)
    theirs = participants(first, data.key)
    with pytest.raises(BudgetExceeded, match=r"above its budget of 1\.8"):
        open_survey(job, tmp_path / "own", first, theirs, KEYS[first.name], small)
    assert small.history() == []
    images = ledger(tmp_path, "images", unit="image")
    with pytest.raises(PrivacyError, match="counts by image"):
        open_survey(job, tmp_path / "own", first, theirs, KEYS[first.name], images)


def test_asked_again_the_same_is_answered_and_nothing_is_paid(
    tmp_path: Path, data: FederatedData, job: SurveyJob
) -> None:
    first = ask(job, InProcessTransport(handlers(tmp_path, job, data)), tmp_path, "")
    later = survey_job(job.settings, job.run, EPSILON, dict(job.roster.keys))
    again = {
        each.name: open_survey(
            later,
            tmp_path / each.name,
            each,
            participants(each, data.key),
            KEYS[each.name],
            Ledger.open(tmp_path / f"{each.name}.sqlite"),
        ).handle
        for each in data.hospitals
    }
    assert ask(later, InProcessTransport(again), tmp_path, "") == first
    assert len(Ledger.open(tmp_path / "hospital-1.sqlite").history()) == 1


def test_without_one_hospital_nothing_opens(
    tmp_path: Path, data: FederatedData, job: SurveyJob
) -> None:
    ours = handlers(tmp_path, job, data)
    ours["hospital-2"] = lambda request: b""
    with pytest.raises(RoundAborted, match="scores need all"):
        ask(job, InProcessTransport(ours), tmp_path, "")


@pytest.mark.parametrize(
    "asked",
    [
        Request(round=1, stage="work", train=True),
        Request(round=2, stage="work", evaluate=True),
        Request(round=0, stage="advertise"),
    ],
    ids=str,
)
def test_nothing_else_is_answered(
    tmp_path: Path, data: FederatedData, job: SurveyJob, asked: Request
) -> None:
    ours = handlers(tmp_path, job, data)
    reply = messages.decode_reply(ours["hospital-1"](messages.encode(asked)))
    assert reply.refusal == "Unplanned"
    assert Ledger.open(tmp_path / "hospital-1.sqlite").history() == []


def test_parameters_are_not_answered_about(
    tmp_path: Path, data: FederatedData, job: SurveyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie = Request(round=1, stage="work", evaluate=True, shared=bytes(4))
    monkeypatch.setattr(SurveyJob, "request", lie)
    with pytest.raises(RoundAborted) as lost:
        ask(job, InProcessTransport(handlers(tmp_path, job, data)), tmp_path, "")
    assert "Unplanned" in str(lost.value.hint)
    assert Ledger.open(tmp_path / "hospital-1.sqlite").history() == []


def test_without_masks_or_noise_there_is_no_survey() -> None:
    keys = {name: key.public for name, key in KEYS.items()}
    for wrong in (
        settings(secure_aggregation={"enabled": False}),
        settings(privacy={"dp": False, "seeded_noise": False}),
        settings(privacy={"unit": "image"}),
    ):
        with pytest.raises(ConfigurationError, match="is a secure sum with noise"):
            survey_job(wrong, "survey", 1.0, keys)


def test_more_patients_than_a_word_can_carry_are_refused(
    tmp_path: Path, data: FederatedData
) -> None:
    few = settings(secure_aggregation={"max_patients": 5}, training={"batch_size": 5})
    with pytest.raises(RoundAborted) as lost:
        conduct(few, EPSILON, tmp_path, silent, data=data)
    assert "RunError" in str(lost.value.hint)


def test_the_file_holds_every_number_and_nothing_of_one_hospital(
    tmp_path: Path, data: FederatedData
) -> None:
    found = conduct(settings(), EPSILON, tmp_path, silent, data=data)
    assert len(found.patients) == 1 + 2 + 2 + 6
    assert found.hospitals == tuple(KEYS)
    assert found.epsilon is None  # seeded
    assert found.simulation == "phantom"
    assert {each.modality for each in found.greys} <= {"CT", "MRI"}
    assert all(each.low <= each.value <= each.high for each in found.patients.values())
    assert all(each.low >= 0 for each in found.patients.values())
