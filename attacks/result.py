"""What an attack hands to the audit: findings and controls, what stands behind them, drawings.

`details` and `lines` end up in audit.json as they are; `pictures` and `charts` are drawn. None of
them names a patient: records are numbered within the audit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.findings import Check, Control, Finding

Progress = Callable[[float], None]  # told the finished share, 0 to 1


class Effort(Enum):
    """How long the audit may take: `--quick`, the default, `--thorough`."""

    QUICK = "quick"
    DEFAULT = "default"
    THOROUGH = "thorough"


@dataclass(frozen=True, eq=False)
class Picture:
    """A reconstruction beside the truth.

    Attributes:
        caption: attack, scene and figure, in words.
        true, reconstruction, decoy: (size, size) in [0, 1]; decoy is the nearest wrong candidate.
    """

    caption: str
    true: NDArray[np.float32] = field(repr=False)
    reconstruction: NDArray[np.float32] = field(repr=False)
    decoy: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, eq=False)
class RocChart:
    """ROC curves of several methods: name -> (points, 4): FPR, TPR and its 95% limits."""

    title: str
    curves: Mapping[str, NDArray[np.float64]] = field(repr=False)


@dataclass(frozen=True, eq=False)
class ScoreChart:
    """Scores of canaries that were included, and of those left out."""

    title: str
    included: NDArray[np.float64] = field(repr=False)
    excluded: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True, eq=False)
class NoiseChart:
    """Noise over what is claimed: name -> (points, 3): round, ratio, squares it is measured by."""

    title: str
    curves: Mapping[str, NDArray[np.float64]] = field(repr=False)


Chart = RocChart | ScoreChart | NoiseChart


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What one step of a family's work gives: an observer's results, or controls and checks.

    Attributes:
        lines: of lists in audit.json that are this family's own, by the list's name.
    """

    findings: tuple[Finding, ...] = ()
    controls: tuple[Control, ...] = ()
    checks: tuple[Check, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = field(default=(), repr=False)
    charts: tuple[Chart, ...] = field(default=(), repr=False)
