"""One person under two identifiers: what gives it away, looked for before anybody is trained on.

Privacy is accounted per patient, and a split keeps a patient on one side. Both fail in silence for
a person who is two patients: epsilon then holds for half of them, and their pictures are trained on
and tested on. Three traces are followed: the same picture under two identifiers (duplicates), two
identifiers that are alike in spelling (names), and a keyed pseudonym of name and birth date that
import takes from DICOM headers. Two identifiers with different pictures, spellings and names
are not found.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from securefed.data.duplicates import (
    NEAR_SLICES,
    Duplicate,
    find_duplicates,
    too_many_for_near,
)
from securefed.data.names import alike, shown
from securefed.data.samples import Patient


@dataclass(frozen=True)
class Double:
    """Two identifiers that seem to be one person's.

    Attributes:
        reason: why, without identifiers.
    """

    first: str = field(repr=False)
    second: str = field(repr=False)
    reason: str

    def __str__(self) -> str:
        return f"patients {shown(self.first)} and {shown(self.second)} {self.reason}"


@dataclass(frozen=True)
class Doubles:
    """What was found.

    Attributes:
        pairs: identifiers that seem to be one person's; each pair once, with its first reason.
        similar: images that look nearly the same, which may be chance; for the operator's eyes.
        twice: patients with one image as CT and as MRI, for the operator's eyes.
    """

    pairs: list[Double]
    similar: list[str] = field(repr=False)
    twice: list[str] = field(repr=False)


def find_doubles(patients: Sequence[Patient], persons: Mapping[str, str] | None = None) -> Doubles:
    """Look for persons with two identifiers.

    Args:
        persons: patient -> the manifest's `person`, "" where it is not known.
    """
    duplicates = find_duplicates(patients)
    found = [
        *_same_images(duplicates),
        *(
            Double(first, other, "are alike but for capitals, blanks, signs or leading zeros")
            for first, *others in alike(patient.patient_id for patient in patients)
            for other in others
        ),
        *_same_person(persons or {}),
    ]
    pairs: dict[frozenset[str], Double] = {}
    for double in found:
        pairs.setdefault(frozenset((double.first, double.second)), double)
    similar = [
        f"{each.second} of patient {shown(each.second.patient)} looks like {each.first} of "
        f"{shown(each.first.patient)}"
        for each in duplicates
        if not each.identical
    ]
    if too_many_for_near(patients):
        similar.append(f"not looked for: there are more than {NEAR_SLICES:,} slices")
    twice = [
        f"patient {shown(each.first.patient)} has one image as {each.first} and as {each.second}"
        for each in duplicates
        if each.first.patient == each.second.patient
    ]
    return Doubles(list(pairs.values()), similar, twice)


def _same_images(duplicates: Sequence[Duplicate]) -> Iterable[Double]:
    pairs: dict[tuple[str, str], list[Duplicate]] = {}
    for each in duplicates:
        patients = each.first.patient, each.second.patient
        if each.identical and len(set(patients)) == 2:
            pairs.setdefault(patients, []).append(each)
    for (first, second), same in pairs.items():
        counts = Counter(each.second.modality.upper() for each in same)
        slices = " and ".join(f"{count} {modality}" for modality, count in counts.items())
        yield Double(
            first,
            second,
            f"show identical images ({slices}, the first: {same[0].first} and {same[0].second})",
        )


def _same_person(persons: Mapping[str, str]) -> Iterable[Double]:
    first: dict[str, str] = {}
    for patient, person in persons.items():
        if person and first.setdefault(person, patient) != patient:
            yield Double(first[person], patient, "have one name in their DICOM headers")
