"""Pictures that loaded, and that hardly look like a scan in a fitting window."""

from collections.abc import Sequence

from securefed.data.images import doubt_about
from securefed.data.samples import Patient
from securefed.wording import counted, first_of


def odd_pictures(patients: Sequence[Patient]) -> list[str]:
    """One line for each kind of doubt: how many pictures, and the first ones by patient."""
    places: dict[str, list[str]] = {}
    for patient in patients:
        for name, images, present in patient:
            for number in present.nonzero()[0]:
                doubt = doubt_about(images[number])
                if doubt:
                    place = f"{name.upper()} {number + 1} of {patient.patient_id}"
                    places.setdefault(doubt, []).append(place)
    return [
        f"{counted(len(found), 'picture')} {doubt} ({first_of(found, ', ')})"
        for doubt, found in places.items()
    ]
