"""The model card: made from a run's records, and written beside the model, in JSON and in words.

A run writes it when it ends; an audit and an evaluation write it again with what they found. It is
the same whenever it is made of the same records: no time stands in it. `securefed report` signs it
with all other files of the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import msgspec

from securefed.config import Settings
from securefed.errors import RunError
from securefed.files import write_atomically
from securefed.model_card.words import in_words
from securefed.privacy.accounting import Noise
from securefed.record import model_file
from securefed.record.audit import AuditFile
from securefed.record.directory import read_about
from securefed.record.evaluation import EvaluationFile
from securefed.record.inventory import digest
from securefed.record.model_card import (
    Audited,
    Details,
    Evaluated,
    HeldOutFigures,
    ModelCard,
    PrivacyPromise,
    Training,
)
from securefed.record.run_file import RunFile, unit_in_words
from securefed.record.summary import HeldOut, HospitalSummary, Summary
from securefed.verdict import gravest

WORDS = "model-card.md"
FEWEST = 5  # patients of each label in an evaluation on a card
INTENDED = (
    "Research on telling patients apart by their scans, as the model does, in hospitals whose "
    "patients are like those it was trained on.",
    "To be evaluated on a hospital's own patients before anybody concludes anything from it.",
    "Not a medical device; not for diagnosis, triage or treatment; not for other organs, "
    "modalities or questions than those of its training.",
)
LIMITS = (
    "Held-out figures are of patients of the hospitals that trained it. Other hospitals' scanners "
    "and patients may do it worse; no factor such as age, sex or scanner was looked at unless an "
    "evaluation did.",
    "Epsilon covers training patients of this run: not held-out patients, not those of an "
    "evaluation, not another run on the same patients.",
    "Secure aggregation hides single hospitals' updates, not what the model tells.",
    "An audit that passes says that the attacks that were run found little, and not that none "
    "could find more.",
)


def of_model(model: Path) -> ModelCard:
    """The card of a model file: the one beside it, or what the file says of itself.

    Args:
        model: model.safetensors, or the folder that it lies in.

    Raises:
        RunError: there is no such file, or the file or its card is damaged.
    """
    file = model / model_file.NAME if model.is_dir() else model
    if (file.parent / ModelCard.NAME).is_file():
        card = ModelCard.read(file.parent)
        if card.details.model == digest(file):
            return card
    return _of_file(file)


def of_records(folder: Path) -> ModelCard | None:
    """The card of a run's folder as its records give it, without evaluations.

    Returns:
        None where there is nothing to vouch for: no finished run with a model, or files that an
        audit found to contradict each other.

    Raises:
        RunError: a record is damaged.
    """
    file = folder / model_file.NAME
    if not (file.is_file() and (folder / RunFile.NAME).is_file()):
        return None
    records = _Records.read(folder)
    return None if records is None else _of_run(records, file)


def renew(folder: Path, evaluated: Evaluated | None = None) -> ModelCard | None:
    """Write the card of a run's folder again, from its records as they are now.

    Args:
        evaluated: to be added; one of the same data is replaced.

    Returns:
        The card; None as of `of_records`.

    Raises:
        RunError: a record, or the card that is there, is damaged.
        OSError: it cannot be written.
    """
    made = of_records(folder)
    if made is None:
        return None
    card = _with(made, of_model(folder).evaluations, evaluated)
    card.write(folder)
    write_atomically(folder / WORDS, in_words(card).encode())
    return card


def withdraw(folder: Path) -> None:
    """Take away a card that nothing vouches for any more."""
    for name in (ModelCard.NAME, WORDS):
        (folder / name).unlink(missing_ok=True)


def evaluated(found: EvaluationFile) -> Evaluated | None:
    """What a card says of an evaluation; None of too few patients of a label."""
    everybody, figures = found.groups[0], found.everybody
    patients, positives = everybody.patients or 0, everybody.positives or 0
    ill = figures.confusion.true_positive + figures.confusion.false_negative
    healthy = figures.confusion.true_negative + figures.confusion.false_positive
    if min(ill, healthy) < FEWEST:
        return None
    half = figures.operating_points[0]
    return Evaluated(
        data=found.data,
        patients=patients,
        positives=positives,
        auc=figures.auc,
        auc_ci95=figures.auc_ci95,
        sensitivity=half.sensitivity,
        specificity=half.specificity,
        calibration_error=figures.calibration_error,
        trained=None if found.trained is None else found.trained > 0,
    )


def _of_file(file: Path) -> ModelCard:
    """What a model file alone says."""
    about = read_about(file)
    settings, task, max_slices = model_file.described(about, file)
    return ModelCard(
        do_not_use=model_file.cautions(about),
        details=Details(
            model=digest(file),
            run=about.get("run", ""),
            securefed="",
            encoder=settings.encoder,
            modalities=settings.modalities,
            image_size=settings.image_size,
            max_slices=max_slices,
            label_of=task.example,
            classes=task.classes,
            initialisation="",
            weights=(),
            personal=None,
        ),
        intended_use=INTENDED,
        calibration=model_file.read_calibration(file),
        training=None,
        held_out=None,
        evaluations=(),
        privacy=PrivacyPromise(
            sentence=about.get("privacy", "not known"),
            noise=_noise(about, file),
            epsilon=None,
            delta=None,
            unit=None,
            held_out_epsilon=None,
        ),
        audit=None,
        limits=LIMITS,
    )


def _noise(about: Mapping[str, str], file: Path) -> Noise:
    said = about.get("noise", "none")
    for known in get_args(Noise):
        if said == known:
            return known  # type: ignore[no-any-return]
    raise RunError(f"{file} says that its noise is {said!r}; it is damaged")


@dataclass(frozen=True)
class _Records:
    """What a finished run has on disk that speaks of its model.

    Attributes:
        summary: of everybody; None in a hospital's folder, which has its `own`.
    """

    about: RunFile
    settings: Settings
    summary: Summary | None
    own: HospitalSummary | None
    held_out: HeldOut | None
    audit: AuditFile | None

    @classmethod
    def read(cls, folder: Path) -> "_Records | None":
        """None where a run has no model, or its files were found to contradict each other."""
        # Not by Run, which the server must not need: it plays recordings back.
        if not (folder / Summary.NAME).is_file():
            return None
        about = RunFile.read(folder)
        at_hospital = about.party == "hospital"
        summary = None if at_hospital else Summary.read(folder)
        audit = AuditFile.read(folder) if (folder / AuditFile.NAME).is_file() else None
        learned = summary is None or summary.rounds > summary.rounds_aborted
        if not learned or (audit and (audit.evidence or audit.run != about.run)):
            return None
        scored = (folder / HeldOut.NAME).is_file()
        return cls(
            about=about,
            settings=about.checked_settings(folder),
            summary=summary,
            own=HospitalSummary.read(folder) if at_hospital else None,
            held_out=HeldOut.read(folder) if scored else None,
            audit=audit,
        )


def _of_run(of: _Records, file: Path) -> ModelCard:
    """What a finished run's records say more, without evaluations."""
    card, about, privacy = _of_file(file), of.about, of.settings.privacy
    exact = privacy.dp and privacy.patients_epsilon is None
    results: Summary | HospitalSummary | None = of.summary or of.own
    return msgspec.structs.replace(
        card,
        details=msgspec.structs.replace(
            card.details,
            run=about.run,
            securefed=about.securefed,
            initialisation=about.model.initialisation,
            weights=about.model.weights,
            personal=of.summary is not None and _personal(of.settings),
        ),
        training=Training(
            configuration=about.configuration,
            simulation=about.data.simulation,
            hospitals=len(about.data.hospitals),
            patients=None if exact or of.summary is None else of.summary.patients,
            rounds=of.summary.rounds if of.summary else of.settings.federation.rounds,
        ),
        held_out=_held_out(of),
        privacy=msgspec.structs.replace(
            card.privacy,
            epsilon=results.epsilon if results else None,
            delta=privacy.delta if privacy.dp else None,
            unit=unit_in_words(privacy.unit, about.data.simulation) if privacy.dp else None,
            held_out_epsilon=of.summary.evaluation_epsilon if of.summary else None,
        ),
        audit=_audited(of.audit) if of.audit else None,
    )


def _personal(settings: Settings) -> bool:
    shared = settings.federation.shared
    return shared == "classifier" or (settings.model.train_encoders and shared != "all")


def _held_out(of: _Records) -> HeldOutFigures | None:
    """None where nobody was scored, or where the card would tell more of them than was paid for."""
    privacy, counts, summary = of.settings.privacy, of.held_out, of.summary
    if counts is None or summary is None or (privacy.dp and privacy.evaluation_epsilon is None):
        return None
    return HeldOutFigures(
        patients=counts.patients,
        noise=counts.noise,
        auc=summary.auc,
        auc_ci95=summary.auc_ci95,
        sensitivity=summary.sensitivity,
        sensitivity_ci95=counts.rate_intervals.get("sensitivity"),
        specificity=summary.specificity,
        specificity_ci95=counts.rate_intervals.get("specificity"),
        classes=summary.classes,
    )


def _audited(audit: AuditFile) -> Audited:
    decisive = [line for line in audit.judgements if line.decides]
    return Audited(
        verdict=audit.of_the_run,
        policy=audit.policy.name,
        effort=audit.effort,
        families={
            name: gravest(line.verdict for line in decisive if line.attack == name)
            for name in dict.fromkeys(line.attack for line in decisive)
        },
        asked=audit.asked,
        interrupted=audit.interrupted,
    )


def _with(card: ModelCard, kept: tuple[Evaluated, ...], more: Evaluated | None) -> ModelCard:
    evaluations = {each.data: each for each in (*kept, *((more,) if more else ()))}
    return msgspec.structs.replace(card, evaluations=tuple(evaluations.values()))
