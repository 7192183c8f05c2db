"""What was chosen for a patient, modality by modality: series of DICOM or volumes of NIfTI."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(frozen=True)
class Choice(Generic[S]):
    """The series of a patient, for the operator's eyes.

    Attributes:
        used: modality -> what is used, in the order of the modalities.
        left: what is not, and why.
        able: modality -> what could be used, that which is used too.
        reasons: modality -> why the one that is used.
    """

    used: Mapping[str, S]
    left: list[tuple[S, str]] = field(default_factory=list)
    able: Mapping[str, tuple[S, ...]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


def keep(patient: str, choice: Choice[S]) -> Choice[S]:
    """The choice of the rules, as it is."""
    return choice


def by_hand(choice: Choice[S], modality: str, chosen: S | None) -> Choice[S]:
    """The same with the series of a modality that a person chose; None: none of them."""
    left = [(series, why) for series, why in choice.left if series is not chosen]
    before = choice.used.get(modality)
    if before is not None and before is not chosen:
        left.append((before, "another was chosen by hand" if chosen else "left by hand"))
    used, reasons = dict(choice.used), dict(choice.reasons)
    if chosen is None:
        used.pop(modality, None)
        reasons.pop(modality, None)
    else:
        used[modality], reasons[modality] = chosen, "chosen by hand"
    ordered = {name: used[name] for name in choice.able if name in used}
    return replace(choice, used=ordered, left=left, reasons=reasons)
