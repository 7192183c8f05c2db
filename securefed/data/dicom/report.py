"""What an import did, for the operator's eyes: places are paths, pseudonyms and names of series."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from securefed.data.choice import Choice
from securefed.data.dicom.geometry import plane_of
from securefed.data.dicom.stacks import Stack
from securefed.data.modalities import DEFAULT
from securefed.data.series_rule import Described
from securefed.data.series_rules import SeriesRules
from securefed.data.skipped import Skipped
from securefed.data.table import Problem
from securefed.data.walk import place_of
from securefed.wording import counted


@dataclass(frozen=True)
class PatientSeries:
    """Which series of a patient were used and why, and which were left and why."""

    patient: str
    used: dict[str, str]  # modality -> series
    left: list[str]
    why: dict[str, str] = field(default_factory=dict)  # modality -> why this one

    @classmethod
    def of(cls, patient: str, choice: Choice[Stack], root: Path) -> "PatientSeries":
        """The choice for a patient, in words."""
        used = {name: describe(stack, root) for name, stack in choice.used.items()}
        alike: dict[tuple[str, str, str], list[Stack]] = {}
        for stack, why in choice.left:
            alike.setdefault((stack.first.modality, stack.name, why), []).append(stack)
        left = [
            f"{kind} {describe(stacks[0], root, stacks)}: {why}"
            for (kind, _, why), stacks in alike.items()
        ]
        return cls(patient, used, left, dict(choice.reasons))

    def lines(self) -> list[str]:
        """What was chosen and what was left, one line each."""
        lines = [
            f"{self.patient} {name.upper()}: {series}: {self.why[name]}"
            for name, series in self.used.items()
        ]
        return lines + [f"{self.patient} left: {series}" for series in self.left]


@dataclass
class ImportReport:
    """Files and patients that could not be used, what is unusual, and which series were chosen."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)  # unusual, but used
    skipped: Skipped = field(default_factory=Skipped)
    series: list[PatientSeries] = field(default_factory=list)
    weightings: dict[str, Counter[str]] = field(default_factory=dict)  # of MRs, patients of each
    described: set[Described] = field(default_factory=set, repr=False)  # what rules looked at

    def unused(self, root: Path, rules: SeriesRules) -> list[Problem]:
        """Notes of what was asked for and is nowhere: a slip, or another hospital's words."""
        notes = [
            f"{rule} of --rules: no series here keeps it" for rule in rules.idle(self.described)
        ]
        used = {name for patient in self.series for name in patient.used}
        missing = [name for name in rules.modalities if name not in (*used, *DEFAULT)]
        notes += [f"{name.upper()}: no patient here has one" for name in missing]
        return [Problem(root.name, note) for note in notes]


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
