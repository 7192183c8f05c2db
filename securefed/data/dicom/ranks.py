"""How good a series is, respect by respect: what makes one a better picture of a head.

The order of `_RANKS` is that in which they count, and each says in words why a series is left. The
first ones, SURE of them, come before the visit. Docs: docs/data.md, which series.
"""

from collections.abc import Callable

import numpy as np

from securefed.data.dicom.anatomy import CONTRADICTED, PART_OF_HEAD
from securefed.data.dicom.contrast import (
    ANGIOGRAPHY,
    DYNAMIC,
    NO_KERNEL,
    SHARP,
    SOFT,
    UNCORRECTED,
    UNKNOWN,
)
from securefed.data.dicom.geometry import is_fine, plane_of
from securefed.data.dicom.roles import PERHAPS_LOCALISER
from securefed.data.dicom.stacks import Stack
from securefed.data.series_rules import SeriesRules

COVERED_MM = 120.0  # covering more of the head than this is no merit
SURE = 2  # respects that come before the visit
_FRAGMENT_MM, _FRAGMENT_IMAGES = 40.0, 3  # no more than this is a piece of a head
_COVERAGE_STEP_MM = 20.0
_WRONG_KERNEL = 2
_PREFERRED_STEP_MM = 5.0  # slice distance that most head protocols have
_MR_WEIGHTINGS = ("T1", "FLAIR", "T2", "PD")  # the preferred one first
_LAST_RESORTS = (
    *("diffusion", "perfusion", ANGIOGRAPHY, "functional", "susceptibility", "spectroscopy"),
    *("T2*", "virtual", DYNAMIC, UNCORRECTED),
)

Rank = tuple[float, str]  # smaller is better; what it says of the series


def ranks(stack: Stack, window: str) -> list[Rank]:
    """How good a series is in each respect, in their order."""
    return [respect(stack, window) for respect in _RANKS]


def doubts_of(stack: Stack, window: str, modality: str, rules: SeriesRules) -> list[str]:
    """Why a series that was chosen for a modality may be less than it should be."""
    best = [respect(stack, window) for respect in (_surely_a_head, _no_fragment)]
    kernel, words = _kernel(stack, window)
    doubts = [words for rank, words in best if rank] + [words] * (kernel == _WRONG_KERNEL)
    # Rules say themselves which weighting they want.
    asked = stack.traits.weighting if rules.of(modality) else None
    what = f"the best there is for the {modality.upper()}"
    return [f"{what}: {doubt}" for doubt in doubts if doubt != asked]


def _surely_a_head(stack: Stack, window: str) -> Rank:
    traits = stack.traits
    if traits.role == PERHAPS_LOCALISER:
        return 3, PERHAPS_LOCALISER
    if traits.part in (PART_OF_HEAD, CONTRADICTED):
        return 2, traits.part
    if traits.weighting in _LAST_RESORTS:
        return 1, traits.weighting
    return 0, "a plain image of the head"


def _no_fragment(stack: Stack, window: str) -> Rank:
    extent, images = _extent_mm(stack), len(stack.slices)
    few = f"{images} images only" if images > 1 else "one image only"
    if images <= _FRAGMENT_IMAGES:
        return 1, few
    if stack.heights is None:
        return 1, "how much it covers is not known"
    return float(extent < _FRAGMENT_MM), f"covers {extent:.0f} mm only"


def _placed(stack: Stack, window: str) -> Rank:
    placed = stack.heights is not None and stack.first.spacing is not None
    return (0, "has places") if placed else (1, "has no geometry")


def _plane(stack: Stack, window: str) -> Rank:
    """Axial; all but a CT also so fine that axial slices can be cut, as 3D sequences are."""
    plane = plane_of(stack.first.axes)
    fine = stack.heights is not None and is_fine(np.diff(stack.heights), stack.first.spacing)
    cut = fine and stack.first.modality != "CT" and plane in ("coronal", "sagittal")
    return float(plane != "axial" and not cut), plane or "has no orientation"


def _original(stack: Stack, window: str) -> Rank:
    return float(stack.traits.derived), "reformatted" if stack.traits.derived else "original"


def _contrast(stack: Stack, window: str) -> Rank:
    """CT without and MRI with contrast medium: what shows a tumour in each."""
    given = stack.traits.contrast
    wanted = stack.first.modality == "MR"
    return float(given != wanted), "with contrast medium" if given else "without contrast medium"


def _weighting(stack: Stack, window: str) -> Rank:
    kind = stack.traits.weighting
    if stack.first.modality == "CT" or kind in _LAST_RESORTS:
        return 0, kind
    place = _MR_WEIGHTINGS.index(kind) if kind != UNKNOWN else len(_MR_WEIGHTINGS)
    return place, kind or "its weighting is not known"


def _kernel(stack: Stack, window: str) -> Rank:
    kernel = stack.traits.kernel
    wanted = SHARP if window == "bone" else SOFT
    if stack.first.modality != "CT" or kernel == wanted:
        return 0, kernel
    return (1, "its kernel is not known") if kernel == NO_KERNEL else (_WRONG_KERNEL, kernel)


def _coverage(stack: Stack, window: str) -> Rank:
    extent = _extent_mm(stack)
    return -(min(extent, COVERED_MM) // _COVERAGE_STEP_MM), f"covers {extent:.0f} mm"


def _distance(stack: Stack, window: str) -> Rank:
    step = _extent_mm(stack) / len(stack.slices)
    return abs(step - _PREFERRED_STEP_MM), f"slices {step:.1f} mm apart"


def _extent_mm(stack: Stack) -> float:
    heights = stack.heights
    if heights is None or len(heights) < 2:
        return 0.0
    span = float(heights[-1] - heights[0])
    return span + span / (len(heights) - 1)  # the last slice has a thickness too


_RANKS: tuple[Callable[[Stack, str], Rank], ...] = (
    *(_surely_a_head, _no_fragment, _placed, _plane, _kernel, _weighting, _contrast, _original),
    *(_coverage, _distance),
)
