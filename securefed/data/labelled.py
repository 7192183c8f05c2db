"""Patients in a label list and patients in a folder of scans: who is in one of them only."""

from collections.abc import Collection, Iterable, Mapping

from securefed.data.names import require_patient, shown, spelling
from securefed.data.table import Problem, parse_label
from securefed.errors import DataError
from securefed.wording import counted, first_of


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


def agreed_label(words: Iterable[str]) -> int:
    """The one label that all images of a patient give; images may say nothing.

    Raises:
        DataError: none gives one, they contradict each other, or a word is no label.
    """
    said = {word for word in words if word}
    if not said:
        raise DataError("no image of its patient has the attribute with the label")
    labels = {parse_label(word) for word in said}
    if len(labels) > 1:
        raise DataError("the images of its patient contradict each other in their label; left out")
    return labels.pop()


def without_scans(labels: Mapping[str, int], scanned: Collection[str]) -> list[Problem]:
    """Who is in the label list and not in the tree: a folder may be missing."""
    missing = [patient for patient in labels if patient not in scanned]
    if not missing:
        return []
    of = f"{len(missing)} of {counted(len(labels), 'labelled patient')}"
    first = first_of([shown(patient) for patient in missing], ", ")
    return [Problem("label list", f"no scan here of {of}: {first}")]
