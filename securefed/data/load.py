"""From a manifest, a folder or a phantom specification to the patients of each hospital.

This is what training calls. It has rows made patients (patient_images), warns about what limits any
conclusion, and gives a fingerprint of what was loaded, so that two runs can be shown to have
used the same data. Patients are divided before anything else happens to them, and every division
is checked for overlap (securefed/data/partition.py). The fingerprint travels in run.json, so it is
keyed with the site's secret: without it nobody can confirm a guess of who or what was loaded.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from securefed.data import partition
from securefed.data.folders import read
from securefed.data.harmonisation import harmonised
from securefed.data.manifest import SIMULATIONS
from securefed.data.names import require_site
from securefed.data.odd_pictures import odd_pictures
from securefed.data.patient_images import read_patients
from securefed.data.phantom import PhantomPatient, PhantomSpec, SiteProfile, generate
from securefed.data.phantom_settings import LABEL_STREAM, generator
from securefed.data.pseudonyms import PHANTOM_KEY, SiteKey
from securefed.data.registrations import registrations, unregistered_pairs
from securefed.data.samples import Example, ExampleKind, Patient
from securefed.data.table import Problem
from securefed.errors import ConfigurationError, DataError
from securefed.wording import counted, first_of, listed

FEWEST_FOR_A_HEADLINE = 100  # patients: below this a 95% interval of AUC is wider than about .2


@dataclass(frozen=True)
class Loaded:
    """Patients read from files, and everything that was wrong or limits their use.

    Attributes:
        warnings: what limits any conclusion, without a number of patients: it travels.
        named: the same in numbers, for the operator alone.
        rows: lines or images that were offered, usable or not.
        impaired: of those that are used, how many lack a picture that is blank.
        persons: patient -> who it is under a keyed pseudonym, "" where the manifest does not say.
        simulation: what the patients are if not people with scans of their own: keys of SIMULATIONS
            joined by "+"; "" for real patients.
        unregistered: pairs that no registration vouches for; names patients.
        classes: names of several that labels are of; none for labels 0 and 1.
    """

    patients: list[Patient]
    problems: list[Problem]
    warnings: list[str]
    named: list[str] = field(default_factory=list)
    rows: int = 0
    impaired: int = 0
    persons: Mapping[str, str] = field(default_factory=dict, repr=False)
    simulation: str = ""
    unregistered: tuple[str, ...] = field(default=(), repr=False)
    classes: tuple[str, ...] = ()

    @property
    def usable_rows(self) -> int:
        """Rows that became a patient's slice."""
        return sum(patient.slices for patient in self.patients)


@dataclass(frozen=True)
class HospitalData:
    """One hospital's patients, divided once and for all; no patient is on both sides.

    Raises:
        DataError: the name cannot be that of the hospital's folder.
    """

    name: str
    train: list[Patient] = field(repr=False)
    test: list[Patient] = field(repr=False)

    def __post_init__(self) -> None:
        require_site(self.name)


@dataclass(frozen=True)
class FederatedData:
    """All hospitals of a run, with the fingerprint over all of their patients.

    Attributes:
        warnings: what limits any conclusion; no patient and no file is named.
        key: the secret that divided the patients and keyed the fingerprint.
        simulation: as in `Loaded`.
        named: what the operator alone should know: it names patients, rows and files.
    """

    hospitals: list[HospitalData]
    fingerprint: str
    warnings: list[str]
    key: SiteKey = field(repr=False)
    simulation: str
    named: tuple[str, ...] = field(default=(), repr=False)

    def without_patients(self) -> "FederatedData":
        """The same hospitals once they have taken their patients over: nobody else holds them."""
        return replace(self, hospitals=[HospitalData(one.name, [], []) for one in self.hospitals])


def load_manifest(
    path: Path,
    image_size: int,
    modalities: Sequence[str] | None = None,
    *,
    example: ExampleKind = "patient",
    classes: Sequence[str] = (),
) -> Loaded:
    """As `inspect_manifest`, for use.

    Raises:
        DataError: also if there is no usable patient.
    """
    loaded = inspect_manifest(path, image_size, modalities, example=example, classes=classes)
    if not loaded.patients:
        problems = loaded.problems
        raise DataError(
            f"{path.resolve().name}: no usable patient"
            + (f" ({first_of(problems)})" if problems else ""),
            hint="securefed data check lists every problem",
        )
    return loaded


def inspect_manifest(
    path: Path,
    image_size: int,
    modalities: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    example: ExampleKind = "patient",
    classes: Sequence[str] = (),
) -> Loaded:
    """Read a manifest CSV, or a folder: its manifest.csv, else a folder layout that is known.

    Bad rows end up in `problems`; the rest is loaded. Patients come in order of first appearance,
    their slices by slice number, or in the order of the file where one has no number.

    Args:
        modalities: which are read, in this order; None for all that there are.
        progress: called with (rows read, rows in all).
        example: what a label is of.
        classes: names of several classes that labels are of; none for labels 0 and 1.

    Raises:
        DataError: nothing there, not a manifest, or an unknown layout.
    """
    if not 8 <= image_size <= 1024:
        raise ConfigurationError(
            f"image_size must be 8 to 1024 pixels, got {image_size}", hint="64 is a common start"
        )
    manifest = read(path, modalities, example=example, classes=classes)
    warnings = [*_made_up(manifest.simulation), *manifest.notes]
    patients, unreadable = read_patients(manifest, image_size, path.resolve().name, progress)
    problems = [*manifest.problems, *unreadable]
    named = []
    if len(patients) < FEWEST_FOR_A_HEADLINE:
        warnings.append(
            f"fewer than {FEWEST_FOR_A_HEADLINE} patients support no headline figure: "
            "report the interval, and leave patients out rather than slices"
        )
    unpaired = sum(not patient.present.all(axis=0).any() for patient in patients)
    if unpaired:
        together = listed([name.upper() for name in manifest.modalities])
        warnings.append(f"not every patient has a slice with {together}")
        named.append(f"no slice has {together} in {counted(unpaired, 'patient')}")
    named += [*registrations(manifest.rows), *odd_pictures(patients)]
    unregistered = unregistered_pairs(manifest.rows)
    if unregistered:
        warnings.append("not every slice is registered to those it is paired with")
    if problems:
        warnings.append("not every row or file could be used")
    return Loaded(
        patients,
        problems,
        warnings,
        named,
        rows=manifest.offered,
        impaired=len(unreadable) - len(manifest.rows) + sum(each.slices for each in patients),
        persons={row.patient_id: row.person for row in manifest.rows},
        simulation=manifest.simulation,
        unregistered=tuple(unregistered),
        classes=tuple(classes),
    )


def phantom_hospitals(
    spec: PhantomSpec,
    hospitals: int,
    patients_per_hospital: int,
    test_patients_per_hospital: int,
    seed: int,
    harmonise: bool = False,
    *,
    example: ExampleKind = "patient",
    label_noise: float = 0.0,
) -> FederatedData:
    """Make hospitals with `patients_per_hospital` to train on, and more of them to test on.

    A phantom is its hospital and its number, so where it goes follows from these and from public
    settings; there is nothing to hash.

    Args:
        example: what a label is of; a slice has that of the lesion it shows, and a phantom has one
            study.
        label_noise: chance of a patient to train on to have the other of two labels.

    Raises:
        ConfigurationError: fewer than one hospital or patient, or a setting out of range.
    """
    for name, value, least in (
        ("hospitals", hospitals, 1),
        ("patients_per_hospital", patients_per_hospital, 1),
        ("test_patients_per_hospital", test_patients_per_hospital, 0),
    ):
        if value < least:
            raise ConfigurationError(
                f"{name} must be at least {least}, got {value}", hint="see docs/phantom.md"
            )
    data = []
    for index in range(hospitals):
        site = SiteProfile.draw(spec, index, seed)
        count = patients_per_hospital + test_patients_per_hospital
        patients = [_labelled(each, example) for each in generate(spec, site, count, seed)]
        train, test = patients[:patients_per_hospital], patients[patients_per_hospital:]
        train = mislabelled(train, label_noise, generator(seed, LABEL_STREAM, index, 0))
        data.append(HospitalData(site.name, train, test))
    return _federated(data, _made_up("phantom"), PHANTOM_KEY, "phantom", harmonise)


def mislabelled(
    patients: Sequence[Patient], share: float, rng: np.random.Generator
) -> list[Patient]:
    """The same patients of two labels, each by its own chance with the other one.

    Who is drawn at a share is drawn at every larger one too.
    """
    wrong = rng.random(len(patients)) < share
    return [
        replace(each, label=1 - each.label) if is_wrong else each
        for each, is_wrong in zip(patients, wrong, strict=True)
    ]


def _labelled(made: PhantomPatient, example: ExampleKind) -> Patient:
    if example != "slice":
        return made.patient
    return made.patient.with_examples(
        [Example(str(k), label, (k,)) for k, label in enumerate(made.labels)]
    )


def manifest_hospitals(
    loaded: Loaded,
    key: SiteKey,
    *,
    hospitals: int,
    test_share: float,
    seed: int,
    by: str = "site",
    alpha: float = 1.0,
    harmonise: bool = False,
) -> FederatedData:
    """Give loaded patients to hospitals and divide each hospital's into train and test.

    Args:
        key: the site's secret, which decides who goes where (securefed/data/partition.py).
        by: "site" (the manifest's own, `hospitals` is then ignored), "iid" or "dirichlet".
        alpha: label skew of "dirichlet"; small is strong.
        test_share: chance of a patient to be held out, 0..1.
        harmonise: bring grey values to the standard scale (securefed/data/harmonisation.py).

    Raises:
        ConfigurationError: unknown `by`, or a value out of range.
        DataError: a hospital gets nobody to train on.
    """
    warnings = [*loaded.warnings, *_sites_ignored(loaded.patients, by)]
    groups = partition.divide(
        loaded.patients,
        key,
        by=by,
        hospitals=hospitals,
        alpha=alpha,
        test_share=test_share,
        seed=seed,
        labels=len(loaded.classes) or 2,
    )
    empty = [name for name, sides in groups.items() if not sides.train]
    if empty:
        raise DataError(
            f"{', '.join(empty)} of {len(groups)} hospitals got no patient to train on",
            hint="where a patient goes does not depend on the others, so few patients may all miss "
            "a hospital: use fewer hospitals, a smaller data.test_fraction, or another seed",
        )
    data = [HospitalData(name, sides.train, sides.test) for name, sides in groups.items()]
    return _federated(data, warnings, key, loaded.simulation, harmonise)


def _sites_ignored(patients: Sequence[Patient], by: str) -> list[str]:
    sites = {patient.site for patient in patients}
    if by == "site" or len(sites) == 1:
        return []
    return [
        f"the data name {len(sites)} sites, which partition {by} does not look at; "
        "data.partition: site gives each site its own patients"
    ]


def fingerprint(patients: Iterable[Patient], key: SiteKey) -> str:
    """HMAC over ids, sites, labels, masks and pixels, hex; the order of patients is nothing to it.

    Guarantee: without the key a fingerprint neither confirms nor excludes a guess of the patients.
    """
    digests = sorted(_digest(patient) for patient in patients)
    return key.digest(b"securefed data 3\0" + b"".join(digests)).hex()


def _federated(
    hospitals: list[HospitalData],
    warnings: list[str],
    key: SiteKey,
    simulation: str,
    harmonise: bool,
) -> FederatedData:
    sides = [side for hospital in hospitals for side in (hospital.train, hospital.test)]
    partition.require_disjoint(sides)
    everyone = (patient for side in sides for patient in side)
    read = fingerprint(everyone, key)  # of what was read, whatever is made of it
    if harmonise:
        hospitals = [
            HospitalData(each.name, harmonised(each.train), harmonised(each.test))
            for each in hospitals
        ]
    return FederatedData(hospitals, read, warnings, key, simulation)


def _digest(patient: Patient) -> bytes:
    digest = hashlib.sha256()
    for part in (
        patient.patient_id.encode(),
        patient.site.encode(),
        bytes([patient.label]),
        np.array(patient.images.shape[1:], dtype="<u4").tobytes(),
        *(repr(part).encode() for part in patient.parts),
        *_scans(patient),
    ):
        # The length before each part keeps two different patients from one byte string.
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _scans(patient: Patient) -> Iterator[bytes]:
    """Of each modality that there is, whatever their order: name, mask and pixels."""
    for name, images, present in sorted(patient, key=lambda each: each[0]):
        if present.any():
            yield name.encode()
            yield present.tobytes()
            yield images.tobytes()


def _made_up(simulation: str) -> list[str]:
    return [
        f"SIMULATION ({kind}): {SIMULATIONS[kind]}; no accuracy and no privacy per patient follows"
        for kind in simulation.split("+")
        if kind
    ]
