"""What a manifest says of how import brought scans together, for `data check` and a run.

The figure of a registered pair is by how much two registrations of it disagree, in millimetres
(securefed/data/registration.py).
"""

import math
from collections.abc import Sequence

from securefed.data.manifest import Row
from securefed.wording import counted, listed

PAIRED = ("", "same-frame", "registered")
_WORDS = {"failed": "could not be registered", "unregistered": "were not registered"}


def registrations(rows: Sequence[Row]) -> list[str]:
    """How many patients were registered, how well, and how many not; nobody is named."""
    names = dict.fromkeys(name.upper() for row in rows for name in row.images)
    scans = listed(list(names)) if names else ""
    by_status: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_status.setdefault(row.registration, {})[row.patient_id] = row
    said = []
    for status, words in _WORDS.items():
        if status in by_status:
            said.append(f"{scans} of {counted(len(by_status[status]), 'patient')} {words}")
    registered = by_status.get("registered", {})
    found = [number(row.registration_mm) for row in registered.values()]
    errors = [error for error in found if error is not None]
    if errors and len(errors) == len(found):
        who = counted(len(registered), "patient")
        said.append(
            f"{scans} of {who} were registered; two registrations of a patient agree within "
            f"{max(errors):.1f} mm"
        )
    return said


def unregistered_pairs(rows: Sequence[Row]) -> list[str]:
    """Patients whose scans are paired though no registration vouches for it, by name."""
    pairs: dict[str, list[Row]] = {}
    for row in rows:
        if row.registration not in PAIRED and len(row.images) > 1:
            pairs.setdefault(row.patient_id, []).append(row)
    return [
        f"{patient_id}: registration {found[0].registration}; its {len(found)} pairs may show two "
        "places"
        for patient_id, found in pairs.items()
    ]


def number(text: str) -> float | None:
    """A registration's figure in mm; None where there is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
