"""A patient's label: from a list of the site's, an attribute of the images, or structured reports.

Where headers or reports have it, their words are labels as in a list (`parse_label`), or are mapped
to labels by the key `labels` of import.yaml. Contradictions are never settled by a guess: images of
a patient that differ cost the patient. Of several reports the latest one counts, as an amended
report takes the place of an earlier one, and complete ones before preliminary or partial ones; that
they differ is told, and so is what nobody has verified.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from securefed.data.dicom.header import Slice
from securefed.data.dicom.identity import contradiction
from securefed.data.dicom.structured import Forms, StructuredReport
from securefed.data.labelled import identity_fault, label_fault
from securefed.data.names import folded, shown
from securefed.data.table import Problem, parse_label
from securefed.errors import ConfigurationError, DataError
from securefed.wording import counted, first_of

_LONGEST_WORDS = 60  # characters of a report that a message repeats


class Words:
    """Labels by the words of headers and reports.

    Args:
        labels: words, or codes, and what a label list would have for them.
        classes: as for `parse_label`.

    Raises:
        ConfigurationError: that is no label.
    """

    def __init__(self, labels: Mapping[str, str], classes: Sequence[str]) -> None:
        self._classes = classes
        self._labels = {
            folded(words): _label(words, label, classes) for words, label in labels.items()
        }
        self._written = {folded(words): words for words in labels}
        self._met: set[str] = set()

    def label(self, forms: Forms) -> int:
        """The label of a value, by any of its forms.

        Raises:
            DataError: it is no label.
        """
        for form in map(folded, forms):
            if form in self._labels:
                self._met.add(form)
                return self._labels[form]
        try:
            return parse_label(forms[-1], self._classes)
        except DataError:
            words = shown(forms[-1][:_LONGEST_WORDS])
            raise DataError(
                f"{words} is no label (labels: of import.yaml can make it one)"
            ) from None

    def unmet(self) -> list[str]:
        """Words that nothing here says."""
        return [written for form, written in self._written.items() if form not in self._met]


def _label(words: str, label: str, classes: Sequence[str]) -> int:
    try:
        return parse_label(label, classes)
    except DataError as error:
        raise ConfigurationError(
            f"labels of --rules: {shown(words)}: {error}", hint="as in: Glioma: tumour"
        ) from None


@dataclass
class Labels:
    """Whence the labels of an import are.

    Attributes:
        listed: label by PatientID; None where the scans have it.
        concept: of structured reports, "" where an attribute of images has it.
        reports: patient -> all of its reports.
    """

    listed: Mapping[str, int] | None = field(repr=False)
    concept: str
    reports: Mapping[str, Sequence[StructuredReport]] = field(repr=False)
    words: Words = field(repr=False)
    notes: list[Problem] = field(default_factory=list, repr=False)
    _unsure: dict[str, list[str]] = field(default_factory=dict, repr=False)  # words -> pseudonyms

    def of(self, patient_id: str, name: str, by_patient: Mapping[str, Sequence[Slice]]) -> int:
        """A patient's label, before a pixel is read.

        Args:
            name: the patient's pseudonym.

        Raises:
            DataError: why the patient cannot be imported.
        """
        fault = identity_fault(patient_id, by_patient)
        if fault:
            raise DataError(fault)
        images, reports = by_patient[patient_id], self.reports.get(patient_id, ())
        people = [*(item.person for item in images), *(each.person for each in reports)]
        differing = contradiction(people)
        if differing:
            raise DataError(f"its PatientID stands for different people, by {differing}; left out")
        if self.listed is not None:
            fault = label_fault(patient_id, self.listed)
            if fault:
                raise DataError(fault)
            return self.listed[patient_id]
        return self._reported(name, reports) if self.concept else self._of_images(images)

    def said(self, root: Path) -> list[Problem]:
        """What is to be told of all labels together."""
        notes = [
            Problem(
                root.name,
                f"the label of {counted(len(names), 'patient')} is from {what}"
                f" ({first_of(names, ', ')})",
            )
            for what, names in self._unsure.items()
        ]
        idle = [f"labels of --rules: nothing here says {shown(w)}" for w in self.words.unmet()]
        return [*self.notes, *notes, *(Problem(root.name, each) for each in idle)]

    def _of_images(self, images: Iterable[Slice]) -> int:
        said = {item.label for item in images if item.label}
        if not said:
            raise DataError("no image of its patient has the attribute with the label")
        labels = {self.words.label((word,)) for word in said}
        if len(labels) > 1:
            raise DataError(
                "the images of its patient contradict each other in their label; left out"
            )
        return labels.pop()

    def _reported(self, name: str, reports: Sequence[StructuredReport]) -> int:
        speaking = [report for report in reports if report.values]
        if not speaking:
            raise DataError(f"no structured report of its patient has {shown(self.concept)}")
        final = [report for report in speaking if report.final]
        counting = final or speaking
        newest = max(report.when for report in counting)
        latest = [report for report in counting if report.when in (newest, "")]
        labels = {self.words.label(value) for report in latest for value in report.values}
        if len(labels) > 1:
            what = "reports of one time" if len(latest) > 1 else "values of its report"
            raise DataError(f"the {what} contradict each other in their label; left out")
        others = [report for report in speaking if report not in latest]
        if any(self._differs(value, labels) for each in others for value in each.values):
            why = "another report of its gives another label; the latest complete one is used"
            self.notes.append(Problem(name, why))
        if not final:
            self._unsure.setdefault("a preliminary or partial report", []).append(name)
        if not any(report.verified for report in latest):
            self._unsure.setdefault("a report that nobody has verified", []).append(name)
        return labels.pop()

    def _differs(self, value: Forms, labels: set[int]) -> bool:
        try:
            return self.words.label(value) not in labels
        except DataError:
            return True


def nowhere(concept: str, reports: Iterable[StructuredReport]) -> str | None:
    """Why no patient has a label, if no report has the concept; with the names that they have."""
    every = list(reports)
    if any(report.values for report in every):
        return None
    if not every:
        return "there is no structured report"
    names = dict.fromkeys(name for report in every for name in report.names)
    told = first_of([shown(name[:_LONGEST_WORDS]) for name in names], ", ")
    return f"no structured report has {shown(concept)}; they have {told}"
