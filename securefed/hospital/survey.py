"""A hospital's part in a survey: all its patients, counted once, with noise that is paid for first.

Those that would be held out in a run are counted too, so that the survey is part of the history of
each of them in the ledger (privacy.participation), and is refused where the budget does not hold it
for one of them.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.client import SecureSumClient
from protocols.identity import IdentityKey
from securefed.data.load import HospitalData
from securefed.data.samples import Patient
from securefed.errors import PrivacyError, RunError, Unplanned
from securefed.hospital.client import Client
from securefed.hospital.one_answer import OneAnswer
from securefed.hospital.questions import Questions
from securefed.model.scores import Steps
from securefed.model.sharing import Vector
from securefed.model.survey import Form
from securefed.privacy.ledger import Ledger
from securefed.privacy.participation import Participants
from securefed.record.noised_scores import SurveyAnswer
from securefed.training.trainer import TrainingSet
from securefed.wire import openings as openings_file
from securefed.wire.contribution import Layout
from securefed.wire.openings import Openings
from securefed.wire.survey import SurveyJob

ROUND = 0  # in the ledger: a survey has one release
LIES = "the server does not keep to the agreement: ask its people"


def counted(form: Form, patients: list[Patient]) -> Steps:
    """The vector of these patients, (words,) ring steps, before noise."""
    total = np.zeros(form.words, np.int64)
    for each in patients:
        scans = [_acquired(images, there) for _, images, there in each]
        total += form.of_patient(each.label, scans)
    return total


def everybody(participants: Participants) -> Participants:
    """All patients on one side: a survey is part of the history that training continues."""
    return Participants(participants.key, participants.trained | participants.held_out, frozenset())


def open_survey(
    job: SurveyJob,
    folder: Path,
    patients: HospitalData,
    participants: Participants,
    identity: IdentityKey,
    ledger: Ledger,
) -> Client:
    """A hospital that answers a survey, new or begun before.

    Args:
        folder: its own of this survey, made if it is not there.
        participants: the same patients, as the ledger knows them.

    Raises:
        BudgetExceeded: the ledger does not hold it for every patient; nothing was counted.
        PrivacyError: the ledger counts images, or at a delta that promises nothing to so many.
        RunError: it was paid for, and what was answered is lost.
    """
    all_of_them = [*patients.train, *patients.test]
    if ledger.unit != "patient":
        raise PrivacyError(
            f"the ledger of {ledger.client} counts by {ledger.unit}, a survey by patient",
            hint="histories of other units do not compose: this hospital takes no part in surveys",
        )
    if ledger.delta * len(all_of_them) >= 1:
        raise PrivacyError(
            f"the ledger of {ledger.client} counts at delta {ledger.delta:g}, not below "
            f"1 / {len(all_of_them)}, its patients",
            hint="such an epsilon promises nothing: use a ledger with a smaller delta",
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    event, begun = job.noise.event, (folder / SurveyAnswer.NAME).exists()
    if ledger.statement().attempts(job.run) and not begun:
        raise RunError(
            f"the ledger has paid for this survey, and {folder / SurveyAnswer.NAME} is missing",
            hint="put it back from a backup; another answer takes another agreement",
        )
    ledger.enrol(job.run, everybody(participants), [] if begun else [event])
    settings, name = job.settings, patients.name
    once = OneAnswer(
        SurveyAnswer,
        job.noise,
        folder,
        lambda replay_key: ledger.reserve(ROUND, event, run=job.run, replay_key=replay_key),
        name=name,
        run=job.run,
        words=job.form.words,
        most=settings.secure_aggregation.max_patients,
        seed=settings.seed if settings.privacy.seeded_noise else None,
    )
    openings = Openings(folder / openings_file.NAME)
    return Client(
        name,
        _Counting(job.layout, job.form, all_of_them),
        SecureSumClient(name, identity, job.roster, job.rules),
        questions=Questions(name, job.plan, job.roster, openings, job.layout),
        scoring=once,
    )


class _Counting:
    """What a hospital does in a survey: it counts, whatever the server sends, and trains nobody."""

    declared, batch_parts = TrainingSet(0, 0), 0

    def __init__(self, layout: Layout, form: Form, patients: list[Patient]) -> None:
        self.layout, self._form, self._patients = layout, form, patients

    def receive(self, shared: Vector) -> None:
        if len(shared):
            raise Unplanned("a survey is asked without parameters", hint=LIES)

    def contribute(self, round_number: int) -> Vector:
        raise Unplanned("a survey trains nobody", hint=LIES)

    def evaluate(self) -> Steps:
        return counted(self._form, self._patients)


def _acquired(images: NDArray[np.uint8], there: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
    return images[there] if there.any() else None
