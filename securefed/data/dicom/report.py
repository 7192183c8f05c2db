"""What an import did, for the operator's eyes: places are paths, pseudonyms and names of series."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from securefed.data.dicom.choice import Choice
from securefed.data.dicom.geometry import plane_of
from securefed.data.dicom.stacks import Stack
from securefed.data.modalities import OF_DICOM
from securefed.data.skipped import Skipped
from securefed.data.table import Problem
from securefed.data.walk import place_of
from securefed.wording import counted


@dataclass(frozen=True)
class PatientSeries:
    """Which series of a patient were used and why, and which were left and why."""

    patient: str
    ct: str | None
    mri: str | None
    left: list[str]
    why: dict[str, str] = field(default_factory=dict)  # "ct" or "mri" -> why this one

    @classmethod
    def of(cls, patient: str, choice: Choice, root: Path) -> "PatientSeries":
        """The choice for a patient, in words."""
        ct, mri = (None if s is None else describe(s, root) for s in (choice.ct, choice.mri))
        alike: dict[tuple[str, str, str], list[Stack]] = {}
        for stack, why in choice.left:
            alike.setdefault((stack.first.modality, stack.name, why), []).append(stack)
        left = [
            f"{modality} {describe(stacks[0], root, stacks)}: {why}"
            for (modality, _, why), stacks in alike.items()
        ]
        reasons = {OF_DICOM[modality]: reason for modality, reason in choice.reasons.items()}
        return cls(patient, ct, mri, left, reasons)

    @property
    def used(self) -> bool:
        """Whether there is anything to import."""
        return bool(self.ct or self.mri)

    def lines(self) -> list[str]:
        """What was chosen and what was left, one line each."""
        used = [("CT", self.ct, self.why.get("ct")), ("MRI", self.mri, self.why.get("mri"))]
        lines = [
            f"{self.patient} {modality}: {name}" + (f": {why}" if why else "")
            for modality, name, why in used
            if name
        ]
        return lines + [f"{self.patient} left: {name}" for name in self.left]


@dataclass
class ImportReport:
    """Files and patients that could not be used, what is unusual, and which series were chosen."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)  # unusual, but used
    skipped: Skipped = field(default_factory=Skipped)
    series: list[PatientSeries] = field(default_factory=list)
    weightings: Counter[str] = field(default_factory=Counter)  # of the MRIs, patients of each


def describe(stack: Stack, root: Path, parts: Sequence[Stack] = ()) -> str:
    """A series by name, size, what it is and where its files are; `parts` if it is several."""
    first, traits = stack.first, stack.traits
    count = sum(len(part.slices) for part in parts or [stack])
    planes = dict.fromkeys(plane_of(part.first.axes) for part in parts or [stack])
    facts = [
        counted(count, "image"),
        " and ".join(filter(None, planes)),
        traits.weighting,
        traits.kernel,
    ]
    echo, inversion, b_value = traits.times
    facts += [
        f"{word} {time}" for word, time in (("TE", echo), ("TI", inversion), ("b", b_value)) if time
    ]
    facts += ["after contrast medium"] if traits.contrast else []
    folder = place_of(first.path.parent, root)
    return f"{stack.name} ({', '.join(filter(None, facts))}; in {folder})"
