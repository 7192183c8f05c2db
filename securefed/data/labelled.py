"""Patients in a label list and patients in a folder of scans: who is in one of them only."""

from collections.abc import Collection, Iterator, Mapping

from securefed.data.names import require_patient, shown, spelling
from securefed.data.table import UNLABELLED, Problem
from securefed.errors import DataError
from securefed.wording import counted, first_of


class Unlabelled(Mapping[str, int]):
    """The label list where nobody looks at labels: it has everybody, and names none."""

    def __contains__(self, patient_id: object) -> bool:
        return True

    def __getitem__(self, patient_id: str) -> int:
        return UNLABELLED

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def identity_fault(patient_id: str, among: Collection[str]) -> str | None:
    """Why an identifier names nobody; `among` as in `require_patient`."""
    try:
        require_patient(patient_id, among)
    except DataError as error:
        return str(error)
    return None


def label_fault(patient_id: str, labels: Mapping[str, int]) -> str | None:
    """Why a patient has no label, with the spelling that the list may have it in."""
    if patient_id in labels:
        return None
    why = "its patient has no usable line in the label list"
    written = [each for each in labels if spelling(each) == spelling(patient_id)]
    if written:
        why += f", which has {shown(written[0])} where the scan has {shown(patient_id)}"
    return why


def without_scans(labels: Collection[str], scanned: Collection[str]) -> list[Problem]:
    """Who is in the label list and not in the tree: a folder may be missing."""
    missing = [patient for patient in labels if patient not in scanned]
    if not missing:
        return []
    of = f"{len(missing)} of {counted(len(labels), 'labelled patient')}"
    first = first_of([shown(patient) for patient in missing], ", ")
    return [Problem("label list", f"no scan here of {of}: {first}")]
