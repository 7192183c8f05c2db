"""Counts by site, as `securefed data check` prints them.

Counts of a small site can single a person out; they are for the operator at that site, and
nothing in a run sends them.
"""

from collections import Counter
from collections.abc import Sequence

from securefed.data.samples import Patient

Counts = dict[str, str | int]


def summarise(patients: Sequence[Patient], classes: Sequence[str] = ()) -> list[Counts]:
    """One dictionary per site, in alphabetical order, and "all" last if there are several.

    Args:
        classes: names of several that labels are of; none for labels 0 and 1.
    """
    sites = sorted({patient.site for patient in patients})
    table = [_count(site, [p for p in patients if p.site == site], classes) for site in sites]
    return table if len(sites) < 2 else [*table, _count("all", patients, classes)]


def _count(name: str, patients: Sequence[Patient], classes: Sequence[str]) -> Counts:
    """Patients by label and by modality; slices by modality."""
    return {
        "site": name,
        "patients": len(patients),
        **_by_label([p.label for p in patients], classes),
        **_examples(patients, classes),
        **_acquired(patients),
        "slices": sum(p.slices for p in patients),
        **{
            f"{name}_slices": sum(int(p.present_of(name).sum()) for p in patients)
            for name in patients[0].modalities
        },
    }


def _by_label(labels: Sequence[int], classes: Sequence[str]) -> Counts:
    if not classes:
        return {"tumour": sum(labels), "no_tumour": len(labels) - sum(labels)}
    return {name: labels.count(number) for number, name in enumerate(classes)}


def _examples(patients: Sequence[Patient], classes: Sequence[str]) -> Counts:
    """Where studies or slices have labels: how many, and of a tumour, or of each class. A patient
    of whom one shows a tumour is counted as one; of classes that with the highest number counts."""
    if not any(patient.parts for patient in patients):
        return {}
    labels = [part.label for patient in patients for part in patient.examples]
    if classes:
        named = {f"{name}_examples": n for name, n in _by_label(labels, classes).items()}
        return {"examples": len(labels), **named}
    return {"examples": len(labels), "tumour_examples": sum(labels)}


def _acquired(patients: Sequence[Patient]) -> Counts:
    """Patients with every modality, with one alone, and with another selection of them."""
    modalities = patients[0].modalities
    found = Counter(tuple(bool(there.any()) for _, _, there in p) for p in patients)
    name = "all" if len(modalities) > 2 else "both"
    counts: Counts = {name: found.pop((True,) * len(modalities), 0)}
    for name in modalities:
        alone = tuple(each == name for each in modalities)
        counts[f"{name}_only"] = found.pop(alone, 0)
    return counts | ({"some": found.total()} if len(modalities) > 2 else {})
