"""Which series becomes a patient's CT, and which its MRI; and why the others do not.

Series that are no anatomy (localisers, phase images, maps, subtractions, projections) or
show another part of the body are never chosen. Of the rest the CT and the MRI are chosen together:
first what is most surely a plain image of the head, then the visit (fewest days between the two),
then series by series in the order of `_RANKS`. The number of slices alone decides nothing. Rules of
the operator (series_rules) come before all of these, and a person may choose otherwise (by_hand).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from securefed.data.dicom.anatomy import CONTRADICTED, PART_OF_HEAD, is_elsewhere
from securefed.data.dicom.contrast import (
    ANGIOGRAPHY,
    DYNAMIC,
    NO_KERNEL,
    SHARP,
    SOFT,
    UNKNOWN,
)
from securefed.data.dicom.geometry import is_fine, plane_of
from securefed.data.dicom.header import days_between
from securefed.data.dicom.roles import ANATOMY, PERHAPS_LOCALISER
from securefed.data.dicom.series_rules import SeriesRules
from securefed.data.dicom.stacks import Stack

COVERED_MM = 120.0  # covering more of the head than this is no merit
_FRAGMENT_MM, _FRAGMENT_IMAGES = 40.0, 3  # no more than this is a piece of a head
_COVERAGE_STEP_MM = 20.0
_WRONG_KERNEL = 2
_USABLE = (ANATOMY, PERHAPS_LOCALISER)
_LOCALISER_SLICES = 9  # at most, in each of its planes
_PREFERRED_STEP_MM = 5.0  # slice distance that most head protocols have
_MR_WEIGHTINGS = ("T1", "FLAIR", "T2", "PD")  # the preferred one first
_LAST_RESORTS = (
    *("diffusion", "perfusion", ANGIOGRAPHY, "functional", "susceptibility", "spectroscopy"),
    *("T2*", "virtual", DYNAMIC),
)

Rank = tuple[float, str]  # smaller is better; what it says of the series


@dataclass(frozen=True)
class Choice:
    """The series of a patient, for the operator's eyes."""

    ct: Stack | None
    mri: Stack | None
    left: list[tuple[Stack, str]] = field(default_factory=list)  # and why
    able: tuple[Stack, ...] = ()  # what could be used, those chosen too
    reasons: dict[str, str] = field(default_factory=dict)  # Modality -> why the one that is used

    def chosen(self) -> Iterator[Stack]:
        """What is used."""
        return (stack for stack in (self.ct, self.mri) if stack is not None)


def choose(
    stacks: Sequence[Stack],
    *,
    window: str,
    max_gap_days: int,
    rules: SeriesRules | None = None,
) -> Choice:
    """Choose the CT and the MRI of a patient; of equals the first by SeriesNumber, then by path.

    Args:
        rules: of the operator, before all others.
    """
    rules = rules or SeriesRules()
    planes = _planes_of_series(stacks)
    never = {id(stack): _why_never(stack, planes[_series(stack)], rules) for stack in stacks}
    left = [(stack, why) for stack in stacks if (why := never[id(stack)])]
    able = [stack for stack in stacks if not never[id(stack)]]
    able.sort(key=lambda stack: stack.traits.number or 0)
    cts: list[Stack | None] = [stack for stack in able if stack.first.modality == "CT"]
    mris: list[Stack | None] = [stack for stack in able if stack.first.modality == "MR"]
    pairs = [(ct, mri) for ct in cts or [None] for mri in mris or [None]]

    graded = {id(stack): ranks(stack, window) for stack in able}

    def rank(pair: tuple[Stack | None, Stack | None]) -> tuple[float, ...]:
        both = [graded[id(stack)] for stack in pair if stack is not None]
        days = _days_apart(*pair)
        sure = [value for each in both for value, _ in each[:_SURE]]
        rest = [value for each in both for value, _ in each[_SURE:]]
        return (
            float(sum(rules.place(stack) or 0 for stack in pair if stack is not None)),
            float(days is not None and days > max_gap_days),
            sum(sure),
            float(days is None),
            float(days or 0),
            *rest,
        )

    ct, mri = min(pairs, key=rank)
    left += [
        (stack, _why_left(stack, ct, mri, window, rules))
        for stack in able
        if stack is not ct and stack is not mri
    ]
    used = [stack for stack in (ct, mri) if stack is not None]
    reasons = {stack.first.modality: _why_chosen(stack, able, rules) for stack in used}
    return Choice(ct, mri, left, tuple(able), reasons)


def by_hand(choice: Choice, modality: str, chosen: Stack | None) -> Choice:
    """The same with the series of a modality that a person chose; None: none of them."""
    left = [(stack, why) for stack, why in choice.left if stack is not chosen]
    before = choice.ct if modality == "CT" else choice.mri
    if before is not None and before is not chosen:
        left.append((before, "another was chosen by hand" if chosen else "left by hand"))
    reasons = {kind: why for kind, why in choice.reasons.items() if kind != modality}
    if chosen is not None:
        reasons[modality] = "chosen by hand"
    ct, mri = (chosen, choice.mri) if modality == "CT" else (choice.ct, chosen)
    return replace(choice, ct=ct, mri=mri, left=left, reasons=reasons)


def _days_apart(ct: Stack | None, mri: Stack | None) -> int | None:
    if ct is None or mri is None:
        return None
    return days_between(ct.first.study_date, mri.first.study_date)


def ranks(stack: Stack, window: str) -> list[Rank]:
    """How good a series is in each respect, in their order."""
    return [respect(stack, window) for respect in _RANKS]


def doubts_of(stack: Stack, window: str) -> list[str]:
    """Why a series that was chosen may be less than it should be."""
    best = [respect(stack, window) for respect in (_surely_a_head, _no_fragment)]
    kernel, words = _kernel(stack, window)
    doubts = [words for rank, words in best if rank] + [words] * (kernel == _WRONG_KERNEL)
    return [f"the best there is for the {stack.first.modality}: {doubt}" for doubt in doubts]


def _series(stack: Stack) -> tuple[str, int | None]:
    return stack.first.series, stack.traits.number


def _planes_of_series(stacks: Sequence[Stack]) -> dict[tuple[str, int | None], set[str]]:
    """Series -> its planes, none where one of its stacks is too large for a localiser."""
    planes: dict[tuple[str, int | None], set[str]] = {}
    for stack in stacks:
        found = planes.setdefault(_series(stack), set())
        if stack.traits.role in _USABLE:
            found.add(plane_of(stack.first.axes))
    for stack in stacks:
        if len(stack.slices) > _LOCALISER_SLICES:
            planes[_series(stack)] = set()
    return planes


def _why_chosen(stack: Stack, able: Sequence[Stack], rules: SeriesRules) -> str:
    rivals = sum(other.first.modality == stack.first.modality for other in able)
    place = rules.place(stack)
    by = f"rule {place} of --rules" if place else ""
    if rivals == 1:
        return f"{by}, the only one" if by else "the only one"
    return f"{by}, the best of {rivals}" if by else f"the best of {rivals}"


def _why_never(stack: Stack, planes: set[str], rules: SeriesRules) -> str | None:
    if stack.traits.role not in _USABLE:
        return stack.traits.role
    if len(planes - {"", "oblique"}) > 1:
        return "localiser (a few images in several planes)"
    if is_elsewhere(stack.traits.part):
        return f"shows the {stack.traits.part}"
    return None if rules.place(stack) is not None else rules.why_left(stack)


def _why_left(
    stack: Stack, ct: Stack | None, mri: Stack | None, window: str, rules: SeriesRules
) -> str:
    chosen = ct if stack.first.modality == "CT" else mri
    if chosen is None:
        return ""
    place, theirs_place = rules.place(chosen), rules.place(stack)
    if place != theirs_place:
        return f"taken by rule {theirs_place}, the chosen one by rule {place}"
    theirs, ours = ranks(stack, window), ranks(chosen, window)
    if all(a <= b for (a, _), (b, _) in zip(theirs[:_SURE], ours[:_SURE], strict=True)):
        pair = (stack, mri) if chosen is ct else (ct, stack)
        days, fewest = _days_apart(*pair), _days_apart(ct, mri)
        if fewest is not None and days is None:
            return "has no study date"
        if fewest is not None and days is not None and days > fewest:
            return f"{days} days from the other modality, the chosen one {fewest}"
    worse = (words for (a, words), (b, _) in zip(theirs, ours, strict=True) if a > b)
    return next(worse, "as good as the chosen one, which comes first")


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
    """Axial; an MRI also so fine that axial slices can be cut, as 3D sequences are."""
    plane = plane_of(stack.first.axes)
    fine = stack.heights is not None and is_fine(np.diff(stack.heights), stack.first.spacing)
    cut = fine and stack.first.modality == "MR" and plane in ("coronal", "sagittal")
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
_SURE = 2  # of these come before the visit
