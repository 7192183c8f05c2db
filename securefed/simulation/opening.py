"""Opening a simulation: n hospitals and a server, of one owner.

`start` begins the run that settings describe, `resume` continues the one on disk.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from securefed.config import Settings
from securefed.data.load import FederatedData, HospitalData
from securefed.errors import ConfigurationError
from securefed.evidence import checks as evidence
from securefed.hospital.opening import declare
from securefed.privacy.ledger import Ledger
from securefed.record.directory import RunDirectory
from securefed.record.provenance import about_run, require_same
from securefed.record.run_file import Data
from securefed.run_directory import Run
from securefed.secure_sum import hiding_of
from securefed.server.served import Served
from securefed.simulation import lifetime
from securefed.simulation.hospitals import Gather, Hospitals, here, open_ledgers
from securefed.simulation.patients import load_data
from securefed.simulation.simulation import Simulation
from securefed.training.canaries import require_room
from securefed.training.device import choose_device
from securefed.training.trainer import TrainingSet
from securefed.wire.description import JobDescription

Say = Callable[[str], None]


def start(
    settings: Settings,
    directory: RunDirectory,
    say: Say,
    *,
    data: FederatedData | None = None,
    gather: Gather = here,
) -> Simulation:
    """Begin a run in `directory`.

    Args:
        say: told what is being prepared.
        data: patients that are already loaded.
        gather: opens the hospitals where they are to work.

    Raises:
        ConfigurationError, DataError, PrivacyError: the run cannot start; nothing was trained.
    """
    started = time.perf_counter()
    if settings.canaries.count and settings.evaluation.baselines:
        raise ConfigurationError(
            "canaries.count: baselines are not compared with a run that holds canaries",
            hint="leave out --canaries or --baselines",
        )
    say("reading patients")
    data = data or load_data(settings)
    job = _describe(settings, data, uuid.uuid4().hex)
    if job.canary_hospital:
        require_room(settings.canaries.count, job.parameters)
    # Last of what may be refused: the data set's own outlives a start that fails.
    ledgers = _ledgers(settings, data, directory, job.run, begun=False)
    job = _with_declared(job, data, directory, ledgers)
    about_run(job, _about(data, settings), choose_device(settings.device)).write(directory.path)
    simulation = _open(job, directory, data, say, gather, started, ledgers)
    # All rounds at once: what a ledger has found within its limits it does not compose again.
    simulation.fit_to_budget()
    simulation.served.announce()
    return simulation


def resume(
    run: Run, say: Say, *, data: FederatedData | None = None, gather: Gather = here
) -> Simulation:
    """Continue a run after its last finished round, unless its files contradict each other.

    Raises:
        ConfigurationError, DataError, PrivacyError: it cannot go on; nothing was trained.
        RunError: it is damaged, or its patients have changed.
    """
    started = time.perf_counter()
    settings = run.settings
    say("holding the files of the run against each other")
    evidence.require(run)
    say("reading patients")
    data = data or load_data(settings, begun=True)
    directory = RunDirectory(run.path)
    ledgers = _ledgers(settings, data, directory, run.about.run, begun=True)
    job = _describe(settings, data, run.about.run)
    job = _with_declared(job, data, directory, ledgers)
    require_same(run.about, about_run(job, _about(data, settings), choose_device(settings.device)))
    simulation = _open(job, directory, data, say, gather, started, ledgers)
    simulation.restore()
    simulation.fit_to_budget()
    simulation.served.announce()
    return simulation


def _ledgers(
    settings: Settings, data: FederatedData, directory: RunDirectory, run: str, *, begun: bool
) -> dict[str, Ledger]:
    """Each hospital's ledger of the run, which pays in the data set's first; none without DP."""
    lasting = lifetime.open_ledger(settings, begun=begun)
    if lasting:
        lifetime.enrol(lasting, settings, data, run)
    folders = {each.name: directory.hospital(each.name) for each in data.hospitals}
    held = open_ledgers(settings, folders, run, lasting)
    if lasting:
        lifetime.require_all(lasting, run, held)
    return held


def _about(data: FederatedData, settings: Settings) -> Data:
    return Data(
        kind="phantom" if settings.data.manifest is None else "manifest",
        simulation=data.simulation or None,
        fingerprint=data.fingerprint,
        hospitals=tuple(each.name for each in data.hospitals),
        warnings=tuple(data.warnings),
    )


def _describe(settings: Settings, data: FederatedData, run: str) -> JobDescription:
    """What is public of a job before any of its hospitals has looked at its patients."""
    return JobDescription(settings, run, tuple(each.name for each in data.hospitals))


def _with_declared(
    job: JobDescription,
    data: FederatedData,
    directory: RunDirectory,
    ledgers: Mapping[str, Ledger],
) -> JobDescription:
    """The job with the smallest number that a hospital declares, where shared noise needs it."""
    if not job.settings.smallest_matters:
        return job
    smallest = min(
        _declared_patients(
            job.settings, each, directory.hospital(each.name), job.run, ledgers[each.name]
        )
        for each in data.hospitals
    )
    return replace(job, smallest_training_set=smallest)


def _declared_patients(
    settings: Settings, hospital: HospitalData, folder: Path, run: str, ledger: Ledger
) -> int:
    # Shared noise has patients as its records.
    exact = TrainingSet(len(hospital.train), len(hospital.train))
    declared, _ = declare(settings, run, folder, hospital.name, exact, ledger)
    return declared.records


def _open(
    job: JobDescription,
    directory: RunDirectory,
    data: FederatedData,
    say: Say,
    gather: Gather,
    started: float,
    ledgers: Mapping[str, Ledger],
) -> Simulation:
    job, group = gather(job, directory, data, say, ledgers)
    served = Served.open(job, directory.path, group.transport)
    served.started = started
    return Simulation(
        directory=directory,
        served=served,
        group=group,
        ledgers=ledgers,
        data=data if job.settings.evaluation.baselines else data.without_patients(),
        device=choose_device(job.settings.device),
        notes=[*data.warnings, *_notes(job, data), *_whole_batches(job.settings, group)],
    )


def _whole_batches(settings: Settings, group: Hospitals) -> list[str]:
    """Who declares a batch and no more, from what it declares, which is public."""
    batch = settings.training.batch_size
    whole = [name for name, each in group.declared().items() if each.records == batch]
    if not (settings.privacy.dp and whole):
        return []
    return [
        f"training.batch_size {batch} is all that {', '.join(whole)} declared: every step draws "
        "everybody there, and a smaller batch needs less noise"
    ]


def _notes(job: JobDescription, data: FederatedData) -> list[str]:
    """What the user should be told about a run."""
    settings = job.settings
    notes = [
        f"{each.name} has too few patients to hold any out; it trains only"
        for each in data.hospitals
        if not each.test
    ]
    shipped = settings.model.initialisation == "public" and not settings.model.weights
    if settings.data.manifest is not None and shipped:
        notes.append(
            "the shipped encoders have seen phantoms only; on real scans they may be of no use"
        )
    if settings.model.initialisation == "random" and not settings.model.train_encoders:
        notes.append(
            "the encoders stay at random weights: fusion and classifier learn from features that "
            "were made for nothing"
        )
    if settings.privacy.dp and settings.privacy.seeded_noise:
        notes.append("seeded noise: who knows the seed can remove it")
    hidden = hiding_of(settings)
    if hidden:
        notes.append(hidden.sentence)
        if not settings.privacy.dp:
            notes.append(
                "without differential privacy masks hide one update in one sum; a server that lies "
                "can ask in two rounds, a hospital short in one, and subtract"
            )
    if job.shared_noise:
        notes.append(
            f"hospitals share out the noise: epsilon holds as long as {job.shared_noise.counted} "
            "of a round's hospitals add theirs and keep it to themselves "
            f"(privacy.colluding: {settings.privacy.colluding})"
        )
    if job.canary_hospital:
        notes.append(
            f"a run for auditing: some of {settings.canaries.count} made-up records, each by its "
            f"own coin, are among the patients of {job.canary_hospital}; do not use the model for "
            "anything else"
        )
    return notes
