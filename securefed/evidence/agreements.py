"""run.json against what every hospital agreed to, and against what follows from its settings.

Hospitals on machines of their own have agreed to a file, agreement.yaml; each has beside it what
its own part of the run was opened with, agreement.json, as in one process.
"""

import hashlib
from collections.abc import Iterator

import msgspec

from securefed.record.agreement import Agreement, differing_setting
from securefed.record.declared import Declared
from securefed.record.mismatch import Mismatch
from securefed.record.run_file import RunFile
from securefed.run_directory import Run
from securefed.training import canaries
from securefed.wire import agreement as agreement_file


def of_settings(run: Run) -> Iterator[Mismatch]:
    """Settings, identity and numbers of records."""
    about, agreed = run.about, agreements(run)
    differing = {
        name: changed
        for name, one in agreed.items()
        if (changed := differing_setting(one.settings, about.settings))
    }
    if len(differing) > 1 and len(differing) == len(agreed):
        # All hospitals against run.json: it is the one that was changed.
        name, changed = next(iter(differing.items()))
        yield Mismatch(RunFile.NAME, f"{changed} ({_place(run, name)})")
    else:
        for name in differing:
            changed = differing_setting(about.settings, agreed[name].settings)
            yield Mismatch(_place(run, name), f"{changed} ({RunFile.NAME})")
    for name, one in agreed.items():
        pairs: list[tuple[str, str | int, str | int]] = [
            ("run", one.run, about.run),
            ("hospital", one.hospital, name),
            ("parameters", one.parameters, about.model.shared_parameters),
        ]
        for term, theirs, ours in pairs:
            if theirs != ours:
                yield Mismatch(_place(run, name), f"{term} is {theirs}, {RunFile.NAME} has {ours}")


def of_agreed_file(run: Run) -> Iterator[Mismatch]:
    """Identity, hospitals and settings of run.json, as agreement.yaml has them."""
    agreed = run.agreement
    if agreed is None:
        return
    place = agreement_file.NAME
    for what, told, follows in (
        ("run", run.about.run, agreed.run),
        ("data.hospitals", run.hospitals, agreed.roster.names),
    ):
        if told != follows:
            yield Mismatch(RunFile.NAME, f"{what} is {told}, {place} has {follows}")
    sections = set(agreement_file.SECTIONS)
    theirs = {key: value for key, value in run.about.settings.items() if key in sections}
    if changed := differing_setting(
        agreed.settings.model_dump(mode="json", include=sections), theirs
    ):
        yield Mismatch(RunFile.NAME, f"{changed} ({place})")


def of_run_file(run: Run) -> Iterator[Mismatch]:
    """What stands in run.json beside the settings that it follows from."""
    about, settings, job = run.about, run.settings, run.job
    random = about.randomness
    masked = settings.secure_aggregation.enabled
    kind = None
    if run.party != "server":
        kind = "phantom" if settings.data.manifest is None else "manifest"
    for name, told, follows in (
        ("configuration", about.configuration, settings.configuration),
        ("randomness.seed", random.seed, settings.seed),
        ("randomness.dp_noise_and_sampling", random.dp_noise_and_sampling, settings.privacy.noise),
        (
            "randomness.secure_aggregation",
            random.secure_aggregation,
            "operating system" if masked else "none",
        ),
        ("data.kind", about.data.kind, kind),
        ("data.hospitals", len(run.hospitals), settings.federation.clients),
        ("model.initialisation", about.model.initialisation, settings.model.initialisation),
        ("model.shared_parameters", about.model.shared_parameters, job.parameters),
        ("model.public_weights_sha256", about.model.public_weights_sha256, job.weights_sha256),
        (
            "model.weights",
            [msgspec.structs.asdict(each) for each in about.model.weights],
            [vars(each) for each in job.weights],
        ),
    ):
        if told != follows:
            yield Mismatch(RunFile.NAME, f"{name} is {told}, its settings give {follows}")


def of_declarations(run: Run) -> Iterator[Mismatch]:
    """What each hospital declared of its training set, once for the run."""
    for name, one in agreements(run).items():
        folder = run.hospital(name)
        if not (folder / Declared.NAME).is_file():
            continue
        found = Declared.read(folder)
        for what, told, follows in (
            ("run", found.run, run.about.run),
            ("patients", found.patients, one.declared_patients),
            ("records", found.records, one.declared_records),
        ):
            if told != follows:
                place = run.place(name, Declared.NAME)
                yield Mismatch(place, f"{what} is {told}, {_place(run, name)} has {follows}")


def of_canaries(run: Run) -> Iterator[Mismatch]:
    """The coins and directions that training held."""
    for name, one in agreements(run).items():
        path = run.hospital(name) / canaries.FILE
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        if found != one.canaries_sha256:
            told = "missing" if found is None else "not the canaries that training held"
            yield Mismatch(run.place(name, canaries.FILE), told)


def agreements(run: Run) -> dict[str, Agreement]:
    """Those that are there."""
    folders = {name: run.hospital(name) for name in run.here}
    return {
        name: Agreement.read(folder)
        for name, folder in folders.items()
        if (folder / Agreement.NAME).is_file()
    }


def _place(run: Run, name: str) -> str:
    return run.place(name, Agreement.NAME)
