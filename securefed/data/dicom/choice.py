"""Which series of a patient is used for each modality; and why the others are not.

Series that are no anatomy (localisers, phase images, maps, subtractions, projections) or
show another part of the body are never chosen. Rules say which modality one of the rest is of
(series_rules). The modalities are then chosen together: first by the operator's rules, then what is
most surely a plain image of the head, then the visit (fewest days between the studies), then series
by series in the order of `_RANKS`. The number of slices alone decides nothing. A person may choose
otherwise (by_hand).
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from securefed.data.choice import Choice
from securefed.data.dicom.anatomy import CONTRADICTED, PART_OF_HEAD, is_elsewhere
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
from securefed.data.dicom.roles import ANATOMY, PERHAPS_LOCALISER
from securefed.data.dicom.stacks import Stack
from securefed.data.series_rules import SeriesRules

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
    *("T2*", "virtual", DYNAMIC, UNCORRECTED),
)

Rank = tuple[float, str]  # smaller is better; what it says of the series


def choose(
    stacks: Sequence[Stack],
    *,
    window: str,
    max_gap_days: int | None,
    rules: SeriesRules | None = None,
) -> Choice[Stack]:
    """Choose a patient's series of each modality; of equals the first by SeriesNumber, then path.

    Args:
        rules: which modality a series is of, and the operator's own, before all others.
    """
    rules = rules or SeriesRules()
    planes = _planes_of_series(stacks)
    takers: dict[int, tuple[str, int]] = {}  # modality, and the number of its rule
    left: list[tuple[Stack, str]] = []
    for stack in stacks:
        taker = rules.taker(stack.described)
        never = _why_never(stack, planes[_series(stack)])
        if never or taker is None:
            left.append((stack, never or rules.why_left(stack.described)))
        else:
            takers[id(stack)] = taker
    able: dict[str, list[Stack]] = {name: [] for name in rules.modalities}
    for stack in sorted(stacks, key=lambda stack: stack.traits.number or 0):
        if id(stack) in takers:
            able[takers[id(stack)][0]].append(stack)
    rivals = {name: found for name, found in able.items() if found}
    graded = {
        id(stack): _Grade.of(takers[id(stack)][1], ranks(stack, window), number)
        for found in rivals.values()
        for number, stack in enumerate(found)
    }
    used = _best(rivals, graded, max_gap_days)
    for name, found in rivals.items():
        left += [
            (stack, _why_left(stack, name, used, takers, window))
            for stack in found
            if stack is not used[name]
        ]
    reasons = {
        name: rules.why_chosen(name, takers[id(stack)][1], len(rivals[name]))
        for name, stack in used.items()
    }
    return Choice(used, left, {name: tuple(found) for name, found in rivals.items()}, reasons)


@dataclass(frozen=True)
class _Grade:
    """How good a series is by itself; smaller is better, in this order."""

    place: int  # of the rule that takes it
    sure: float  # that it is a plain image of the head
    rest: tuple[float, ...]
    number: int  # among those of its modality

    @classmethod
    def of(cls, place: int, ranked: Sequence[Rank], number: int) -> "_Grade":
        values = [value for value, _ in ranked]
        return cls(place, sum(values[:_SURE]), tuple(values[_SURE:]), number)

    def key(self) -> tuple[float, float, tuple[float, ...], int]:
        return self.place, self.sure, self.rest, self.number


def _best(
    rivals: Mapping[str, Sequence[Stack]],
    graded: Mapping[int, _Grade],
    max_gap_days: int | None,
) -> dict[str, Stack]:
    """The best of all combinations of one series for each modality.

    Of the combinations whose studies lie between two dates the best is that of the best series by
    themselves, so it is enough to look at each two dates, and not at each combination.
    """
    if not rivals:
        return {}
    ranked = {
        name: sorted(found, key=lambda stack: graded[id(stack)].key())
        for name, found in rivals.items()
    }
    every = [stack.first.study_date for found in rivals.values() for stack in found]
    dates = sorted({day for day in every if day is not None})
    spans = [*itertools.combinations_with_replacement(dates, 2), (date.max, date.min)]
    combinations: list[dict[str, Stack]] = []
    for (first, last), undated in itertools.product(spans, (False, True)):
        found = {
            name: next((s for s in each if _is_within(s, first, last, undated=undated)), None)
            for name, each in ranked.items()
        }
        if None not in found.values():
            combinations.append({name: s for name, s in found.items() if s is not None})

    def rank(used: Mapping[str, Stack]) -> tuple[Any, ...]:
        grades = [graded[id(stack)] for stack in used.values()]
        unknown, days = _visits(used.values())
        return (
            sum(grade.place for grade in grades),
            max_gap_days is not None and days > max_gap_days,
            sum(grade.sure for grade in grades),
            unknown,
            days,
            [grade.rest for grade in grades],
            [grade.number for grade in grades],
        )

    return min(combinations, key=rank)


def _is_within(stack: Stack, first: date, last: date, *, undated: bool) -> bool:
    day = stack.first.study_date
    return undated if day is None else first <= day <= last


def _visits(stacks: Iterable[Stack]) -> tuple[bool, int]:
    """Whether it is not known how far apart the studies are, and the days between those known."""
    days = [stack.first.study_date for stack in stacks]
    known = [day for day in days if day is not None]
    between = (max(known) - min(known)).days if known else 0
    return len(days) < 2 or len(known) < len(days), between


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


def _why_never(stack: Stack, planes: set[str]) -> str | None:
    if stack.traits.role not in _USABLE:
        return stack.traits.role
    if len(planes - {"", "oblique"}) > 1:
        return "localiser (a few images in several planes)"
    return f"shows the {stack.traits.part}" if is_elsewhere(stack.traits.part) else None


def _why_left(
    stack: Stack,
    name: str,
    used: Mapping[str, Stack],
    takers: Mapping[int, tuple[str, int]],
    window: str,
) -> str:
    chosen = used[name]
    (_, place), (_, theirs_place) = takers[id(chosen)], takers[id(stack)]
    if place != theirs_place:
        return f"taken by rule {theirs_place}, the chosen one by rule {place}"
    theirs, ours = ranks(stack, window), ranks(chosen, window)
    if all(a <= b for (a, _), (b, _) in zip(theirs[:_SURE], ours[:_SURE], strict=True)):
        unknown, days = _visits({**used, name: stack}.values())
        known_not, fewest = _visits(used.values())
        others = "the other modality" if len(used) == 2 else "the other modalities"
        if unknown and not known_not:
            return "has no study date"
        if unknown == known_not and days > fewest:
            return f"{days} days from {others}, the chosen one {fewest}"
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
_SURE = 2  # of these come before the visit
