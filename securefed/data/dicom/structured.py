"""Structured reports (PS3.3, A.35): what one says under the name of a concept.

A report is a tree of content items, each with a concept name and a value: a code, a text, a number.
An item is found by its name however deep it lies: by the code's meaning (`Diagnosis`), its value
(`121071`) or both of scheme and value (`DCM:121071`). Containers have no value, and an item that
refers to another one is that other one. Text is data: it is compared with words, never searched
for them, since "no tumour" has a tumour in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from securefed.data.dicom.header import one_line
from securefed.data.dicom.identity import Person, person_of
from securefed.data.dicom.objects import modality_of
from securefed.data.names import folded
from securefed.errors import DataError

MODALITY = "SR"
_MOST_ITEMS = 100_000  # of one report
_DEEPEST = 100  # levels; each costs as much as all that is below it
_MOST_NAMES = 30  # told where the concept that was asked for is nowhere
_CODES = ("CodeValue", "LongCodeValue", "URNCodeValue")

Forms = tuple[str, ...]  # what one value may be called, the fullest first: "SCT:1", "1", "Glioma"


@dataclass(frozen=True)
class StructuredReport:
    """What is needed of one report. For the operator's eyes; nothing of it is written.

    Attributes:
        when: ContentDate and ContentTime in digits, "" where there is none.
        final: complete, and not called preliminary.
        values: of the concept that was asked for, none where it has none.
        names: concepts that it has, the first ones.
    """

    path: Path = field(repr=False)
    patient_id: str = field(repr=False)
    person: Person = field(repr=False)
    when: str = field(repr=False)
    final: bool
    verified: bool
    values: tuple[Forms, ...] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)


def is_report(header: Dataset) -> bool:
    """Whether a file is a structured report, of the standard's classes or a maker's."""
    return modality_of(header) == MODALITY and "ContentSequence" in header


@one_line
def read_report(path: Path, header: Dataset, concept: str) -> StructuredReport:
    """What a report says under a concept's name.

    Raises:
        DataError: no patient, or a tree that is no report.
    """
    patient_id = str(header.get("PatientID", "") or "").strip()
    if not patient_id:
        raise DataError("is a report without PatientID, so its patient is unknown")
    names: dict[str, None] = {}
    values: list[Forms] = []
    try:
        for item in _items(header):
            forms = _code(item, "ConceptNameCodeSequence")
            if not forms:
                continue
            if len(names) < _MOST_NAMES:
                names[forms[-1]] = None
            value = _value(item) if folded(concept) in map(folded, forms) else ()
            values += [value] if value else []
    except RecursionError:
        raise DataError("is a report whose items lie too deep") from None
    return StructuredReport(
        path=path,
        patient_id=patient_id,
        person=person_of(header),
        when=_moment(header),
        final=_flag(header, "CompletionFlag") != "PARTIAL"
        and _flag(header, "PreliminaryFlag") != "PRELIMINARY",
        verified=_flag(header, "VerificationFlag") == "VERIFIED",
        values=tuple(dict.fromkeys(values)),
        names=tuple(names),
    )


def _items(header: Dataset) -> Iterator[Dataset]:
    """Every content item, in the order of the report."""
    waiting = [(0, header)]
    for _ in range(_MOST_ITEMS):
        if not waiting:
            return
        depth, item = waiting.pop()
        yield item
        below = list(item.get("ContentSequence", None) or ())
        if below and depth == _DEEPEST:
            raise RecursionError
        waiting += [(depth + 1, each) for each in reversed(below)]
    raise DataError(f"is a report of more than {_MOST_ITEMS} items")


def _code(item: Dataset, keyword: str) -> Forms:
    sequence = item.get(keyword, None)
    if not sequence:
        return ()
    code = sequence[0]
    value = next((str(code.get(word, "") or "").strip() for word in _CODES if word in code), "")
    scheme, meaning = (
        str(code.get(word, "") or "").strip() for word in ("CodingSchemeDesignator", "CodeMeaning")
    )
    both = f"{scheme}:{value}" if scheme and value else ""
    return tuple(filter(None, (both, value, meaning)))


def _value(item: Dataset) -> Forms:
    """What an item says; nothing where it is a container, a picture, a date and the like."""
    code = _code(item, "ConceptCodeSequence")
    if code:
        return code
    measured = item.get("MeasuredValueSequence", None)
    number = measured[0].get("NumericValue", None) if measured else None
    text = item.get("TextValue", None) if number is None else number
    words = " ".join(str(text or "").split()) if number is None else f"{float(number):g}"
    return (words,) if words else ()


def _flag(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword, "") or "").strip().upper()


def _moment(header: Dataset) -> str:
    day, time = (str(header.get(f"Content{word}", "") or "").strip() for word in ("Date", "Time"))
    day = day.replace(".", "")
    return day + time.replace(":", "") if len(day) == 8 and day.isdigit() else ""
