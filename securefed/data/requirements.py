"""What patients must be before anybody is trained on, refused by name or told to the operator.

`data check` and `run` ask the same here, so that a run meets no fault that a check would not have
found. What names a patient or a file is for the operator's own screen; what travels in run.json
holds counts only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from securefed.data.identities import Doubles
from securefed.data.load import HospitalData, Loaded
from securefed.data.names import alike, shown
from securefed.data.samples import Patient
from securefed.errors import DataError
from securefed.wording import counted, first_of, listed

LOOK = "securefed data check lists all"


@dataclass(frozen=True)
class Told:
    """What limits a run on these patients.

    Attributes:
        warnings: for everybody who reads the run; no number of patients, which epsilon would not
            cover.
        named: with numbers, and names of rows, files and patients; for the operator alone.
    """

    warnings: list[str]
    named: list[str]


def require_usable(loaded: Loaded, most_unusable: float) -> None:
    """Refuse a data set of which too much cannot be used.

    Raises:
        DataError: the share of rows that cannot be used, or not in whole, is above
            `most_unusable`; the first ones are named.
    """
    unusable = loaded.rows - loaded.usable_rows + loaded.impaired
    if unusable <= most_unusable * loaded.rows:
        return
    raise DataError(
        f"{unusable} of {loaded.rows} rows cannot be used: {first_of(loaded.problems)}",
        hint=f"{LOOK}; data.max_unusable ({most_unusable:g}) is the share that a run goes on with",
    )


def require_one_identifier_each(doubles: Doubles) -> None:
    """Refuse persons with two identifiers: epsilon would hold for one of the two only.

    Raises:
        DataError: there are some; the first ones are named.
    """
    if doubles.pairs:
        raise DataError(
            f"{_pairs(doubles)}, and epsilon is per patient: {first_of(doubles.pairs)}",
            hint=f"give each person one patient_id ({LOOK}); data.allow_duplicates: true trains "
            "all the same, and epsilon is then per identifier, not per person",
        )


def require_one_name_per_site(loaded: Loaded) -> None:
    """Refuse sites that look like one: each would be a hospital with a budget of its own.

    Raises:
        DataError: two sites are alike in spelling.
    """
    for reason in alike_sites(loaded):
        raise DataError(reason, hint="write one site's name in one way in the manifest")


def alike_sites(loaded: Loaded) -> list[str]:
    """Sites whose names are alike, a line for each group."""
    groups = alike(patient.site for patient in loaded.patients)
    return [f"sites {' and '.join(map(shown, group))} look like one site" for group in groups]


def require_both_labels(hospitals: Iterable[HospitalData]) -> None:
    """Refuse patients that can teach nothing.

    Raises:
        DataError: all patients to train on, of all hospitals together, have one label.
    """
    for reason in one_label(_trained(hospitals)):
        raise DataError(
            f"to train on: {reason}",
            hint="add patients of the other label; if there are some, they are all held out: take "
            "another seed",
        )


def one_label(patients: Sequence[Patient]) -> list[str]:
    """A line if all patients have one label."""
    labels = {example.label for patient in patients for example in patient.examples}
    if len(labels) != 1:
        return []
    who = "the one patient has" if len(patients) == 1 else f"all {len(patients)} patients have"
    return [f"{who} label {labels.pop()}: nothing can be learned"]


def _trained(hospitals: Iterable[HospitalData]) -> list[Patient]:
    return [patient for hospital in hospitals for patient in hospital.train]


def _labels_without(patients: Sequence[Patient], classes: Sequence[str]) -> list[str]:
    """Labels that no example has, by name."""
    there = {example.label for patient in patients for example in patient.examples}
    return [name for label, name in enumerate(classes or ("0", "1")) if label not in there]


def tell(loaded: Loaded, doubles: Doubles, hospitals: Sequence[HospitalData]) -> Told:
    """What a run says of patients that it accepts."""
    warnings, named = [], list(loaded.named)
    if loaded.problems:
        unusable = loaded.rows - loaded.usable_rows + loaded.impaired
        named.append(
            f"not used, or not in whole, {unusable} of {loaded.rows} rows: "
            f"{first_of(loaded.problems)}; {LOOK}"
        )
    if doubles.pairs:
        side = {
            patient.patient_id: name
            for hospital in hospitals
            for name, patients in (("train", hospital.train), ("test", hospital.test))
            for patient in patients
        }
        across = sum(side[pair.first] != side[pair.second] for pair in doubles.pairs)
        warnings.append(
            "some patient ids seem to be one person's (identical images, names or spellings)"
            + (", trained on and held out: held-out figures are too good" if across else "")
            + "; epsilon is per id, not per person"
        )
        named.append(
            f"{_pairs(doubles)}, {across} with one id trained on and one held out: "
            f"{first_of(doubles.pairs)}; {LOOK}"
        )
    held_out = [patient for hospital in hospitals for patient in hospital.test]
    if missing := _labels_without(held_out, loaded.classes):
        warnings.append(
            f"held-out patients are not of every class (none is {listed(missing)}): there is no "
            "mean AUC"
            if loaded.classes
            else "held-out patients are not of both labels: there is no AUC"
        )
    if loaded.classes and (missing := _labels_without(_trained(hospitals), loaded.classes)):
        named.append(f"nobody to train on is {listed(missing)}: such patients are never found")
    for hospital in hospitals:
        if one_label(hospital.train):
            named.append(f"{hospital.name} trains on patients of one label only")
    if doubles.twice:
        warnings.append("some CT and MRI are one image: nothing can be learned from such a pair")
        named.append(f"{first_of(doubles.twice)}; {LOOK}")
    if doubles.similar:
        named.append(f"images that look the same: {first_of(doubles.similar)}; {LOOK}")
    sites = alike_sites(loaded)
    if sites:
        named.append(f"{first_of(sites)}")
    return Told(warnings, named)


def _pairs(doubles: Doubles) -> str:
    pairs = counted(len(doubles.pairs), "pair")
    seem = "seems" if len(doubles.pairs) == 1 else "seem"
    why = "(identical images, names or spellings)"
    return f"{pairs} of patient ids {seem} to be one person each {why}"
