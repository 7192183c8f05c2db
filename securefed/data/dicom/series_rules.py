"""A hospital's own rules of which series to use, read from import.yaml.

For each modality a list, the best first; a series is taken by the first rule that it keeps, and one
that keeps none is left. What the general rules never use (choice.py: localisers, maps, another part
of the body) is not used under these either; among series of one rule the general ones decide.
A pattern is found anywhere in the name, in letters of either case; `*` and `?` stand for anything,
and `!` before it says that it must not be found.
"""

import re
from fnmatch import translate
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator

from securefed import settings_file
from securefed.data.dicom.geometry import plane_of
from securefed.data.dicom.stacks import Stack
from securefed.data.modalities import OF_DICOM
from securefed.errors import ConfigurationError

_EXAMPLE = "docs/data.md, Rules of your own"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Patterns = Annotated[list[str], BeforeValidator(_as_list)]


class SeriesRule(BaseModel):
    """What a series must be; what is not named may be anything.

    Attributes:
        description: patterns, of which SeriesDescription has one; and none of those with "!".
        image_type: values that ImageType has; and none of those with "!".
        contrast: whether contrast medium was given.
        thickness_mm: the least and the largest SliceThickness.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

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

    def broken_by(self, stack: Stack) -> str | None:
        """Why a series does not keep this rule; None if it does."""
        first, traits = stack.first, stack.traits
        if not _fits(traits.description, self.description):
            return "its description"
        wanted, unwanted = _signs(self.image_type)
        types = {value.upper() for value in first.image_type}
        if not {w.upper() for w in wanted} <= types or types & {u.upper() for u in unwanted}:
            return "its image type"
        if self.contrast is not None and traits.contrast != self.contrast:
            return f"{'with' if traits.contrast else 'without'} contrast medium"
        plane = plane_of(first.axes)
        if self.plane is not None and plane != self.plane:
            return plane or "no orientation"
        return self._of_another_thickness(first.thickness)

    def _of_another_thickness(self, thickness: float | None) -> str | None:
        if self.thickness_mm is None:
            return None
        if thickness is None:
            return "no thickness"
        low, high = self.thickness_mm
        return None if low <= thickness <= high else f"{thickness:g} mm thick"


class SeriesRules(BaseModel):
    """The rules of each modality in order of preference; without one, anything is taken."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    ct: list[SeriesRule] = []
    mri: list[SeriesRule] = []

    def of(self, stack: Stack) -> list[SeriesRule]:
        """The rules of a series' modality."""
        rules: list[SeriesRule] = getattr(self, OF_DICOM[stack.first.modality])
        return rules

    def place(self, stack: Stack) -> int | None:
        """The number of the rule that takes a series, from 1; 0 without rules, None if none."""
        rules = self.of(stack)
        if not rules:
            return 0
        kept = (number for number, rule in enumerate(rules, 1) if not rule.broken_by(stack))
        return next(kept, None)

    def why_left(self, stack: Stack) -> str:
        """Why no rule takes a series."""
        told = [f"{n}: {rule.broken_by(stack)}" for n, rule in enumerate(self.of(stack), 1)]
        return f"no rule takes it ({', '.join(told)})"


def read_rules(path: Path) -> SeriesRules:
    """Read import.yaml.

    Raises:
        ConfigurationError: it cannot be read, or says what no rule knows.
    """
    values = settings_file.read(path, "file of rules", _EXAMPLE, "give an existing YAML file")
    try:
        return SeriesRules.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "no rule knows this key"
        raise ConfigurationError(
            f"{path.name}: {key}: {message[:1].lower()}{message[1:]}", hint=f"see {_EXAMPLE}"
        ) from None


def _signs(patterns: list[str]) -> tuple[list[str], list[str]]:
    unwanted = [each[1:] for each in patterns if each.startswith("!")]
    return [each for each in patterns if not each.startswith("!")], unwanted


def _fits(text: str, patterns: list[str]) -> bool:
    wanted, unwanted = _signs(patterns)

    def found(pattern: str) -> bool:
        glob = pattern.casefold().replace("[", "[[]")  # a bracket is a letter like others
        return re.match(translate(f"*{glob}*"), text.casefold()) is not None

    return (not wanted or any(map(found, wanted))) and not any(map(found, unwanted))
