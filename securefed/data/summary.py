"""Counts by site, as `securefed data check` prints them.

Counts of a small site can single a person out; they are for the operator at that site, and
nothing in a run sends them.
"""

from collections.abc import Sequence

from securefed.data.samples import Patient

Counts = dict[str, str | int]


def summarise(patients: Sequence[Patient]) -> list[Counts]:
    """One dictionary per site, in alphabetical order, and "all" last if there are several."""
    sites = sorted({patient.site for patient in patients})
    table = [_count(site, [p for p in patients if p.site == site]) for site in sites]
    return table if len(sites) < 2 else [*table, _count("all", patients)]


def _count(name: str, patients: Sequence[Patient]) -> Counts:
    """Patients by label and by modality; slices by modality."""
    return {
        "site": name,
        "patients": len(patients),
        "tumour": sum(p.label for p in patients),
        "no_tumour": sum(1 - p.label for p in patients),
        "both": sum(bool(p.has_ct.any() and p.has_mri.any()) for p in patients),
        "ct_only": sum(not p.has_mri.any() for p in patients),
        "mri_only": sum(not p.has_ct.any() for p in patients),
        "slices": sum(p.slices for p in patients),
        "ct_slices": sum(int(p.has_ct.sum()) for p in patients),
        "mri_slices": sum(int(p.has_mri.sum()) for p in patients),
    }
