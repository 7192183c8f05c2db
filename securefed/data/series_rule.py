"""One rule of which series, or volume, may become a modality's; and what a rule looks at.

A pattern is found anywhere in the name, in letters of either case; `*` and `?` stand for anything,
and `!` before it says that it must not be found.
"""

import re
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator

Kind = Literal["CT", "MR", "PT", "NM"]
Weighting = Literal[
    "T1",
    "T2",
    "FLAIR",
    "PD",
    "T2*",
    "diffusion",
    "perfusion",
    "angiography",
    "functional",
    "susceptibility",
    "spectroscopy",
]


@dataclass(frozen=True)
class Described:
    """What is known of a series, or of a volume in a file, before its voxels are read.

    Attributes:
        kind: Modality (0008,0060), "" where the format does not say.
        description: SeriesDescription, or a file's place in its tree.
        sequence: of an MR, as `weighting_of` has it; "" if not known.
        named: the modality that a file's name says, "" if none; None where a header says it.
    """

    kind: str
    description: str = field(repr=False)
    sequence: str
    contrast: bool
    plane: str
    thickness_mm: float | None
    image_type: tuple[str, ...] = ()
    named: str | None = None


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Patterns = Annotated[list[str], BeforeValidator(_as_list)]


class SeriesRule(BaseModel):
    """What a series must be; what is not named may be anything.

    Attributes:
        modality: Modality (0008,0060), for names that say none.
        description: patterns, of which the description has one; and none of those with "!".
        image_type: values that ImageType has; and none of those with "!".
        contrast: whether contrast medium was given.
        thickness_mm: the least and the largest thickness of a slice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    modality: Kind | None = None
    sequence: Weighting | None = None
    description: Patterns = []
    image_type: Patterns = []
    contrast: bool | None = None
    plane: Literal["axial", "coronal", "sagittal", "oblique"] | None = None
    thickness_mm: list[float] | None = None

    @field_validator("thickness_mm")
    @classmethod
    def _is_a_range(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not (len(value) == 2 and 0 <= value[0] <= value[1]):
            raise ValueError("must be two numbers, the smaller first")
        return value

    def broken_by(self, series: Described) -> str | None:
        """Why a series does not keep this rule; None if it does."""
        if self.modality is not None and series.kind not in ("", self.modality):
            return series.kind
        if self.sequence is not None and series.sequence != self.sequence:
            return series.sequence or "its sequence is not known"
        if not _fits(series.description, self.description):
            return "its description"
        wanted, unwanted = _signs(self.image_type)
        types = {value.upper() for value in series.image_type}
        if not {w.upper() for w in wanted} <= types or types & {u.upper() for u in unwanted}:
            return "its image type"
        if self.contrast is not None and series.contrast != self.contrast:
            return f"{'with' if series.contrast else 'without'} contrast medium"
        if self.plane is not None and series.plane != self.plane:
            return series.plane or "no orientation"
        return self._of_another_thickness(series.thickness_mm)

    @property
    def names_files(self) -> bool:
        """Whether it says by itself which files it means."""
        return bool(_signs(self.description)[0])

    def means(self, description: str) -> bool:
        """Whether it takes a file by its name alone, whatever it is called."""
        return self.names_files and _fits(description, self.description)

    def words(self) -> str:
        """The rule as it is told where nobody wrote it."""
        contrast = {None: "", True: "with contrast medium", False: "without contrast medium"}
        return " ".join(filter(None, (self.sequence, contrast[self.contrast])))

    def _of_another_thickness(self, thickness: float | None) -> str | None:
        if self.thickness_mm is None:
            return None
        if thickness is None:
            return "no thickness"
        low, high = self.thickness_mm
        return None if low <= thickness <= high else f"{thickness:g} mm thick"


def _signs(patterns: list[str]) -> tuple[list[str], list[str]]:
    unwanted = [each[1:] for each in patterns if each.startswith("!")]
    return [each for each in patterns if not each.startswith("!")], unwanted


def _fits(text: str, patterns: list[str]) -> bool:
    wanted, unwanted = _signs(patterns)

    def found(pattern: str) -> bool:
        glob = pattern.casefold().replace("[", "[[]")  # a bracket is a letter like others
        return re.match(translate(f"*{glob}*"), text.casefold()) is not None

    return (not wanted or any(map(found, wanted))) and not any(map(found, unwanted))
