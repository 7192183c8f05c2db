"""What an attack hands to the audit: findings and controls, what stands behind them, pictures.

`details` ends up in audit.json as it is; `pictures` and `curves` are drawn by the command line.
Neither names a patient: records are numbered within the audit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.epsilon.canaries import EpsilonAudit
from attacks.verdicts import Control, Finding

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
class AttackResult:
    """One family's results for one observer, or its controls (which need no observer)."""

    findings: tuple[Finding, ...] = ()
    controls: tuple[Control, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = field(default=(), repr=False)
    curves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)
    epsilon_audit: EpsilonAudit | None = None
