"""Which series of a patient is used for each modality; and why the others are not.

Series that are no anatomy (localisers, phase images, maps, subtractions, projections) or
show another part of the body are never chosen. Rules say which modality one of the rest is of
(series_rules). The modalities are then chosen together: first by the operator's rules, then what is
most surely a plain image of the head, then the visit (fewest days between the studies), then series
by series in the order of ranks.py. The number of slices alone decides nothing. A person may choose
otherwise (by_hand).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from securefed.data.choice import Choice
from securefed.data.dicom.anatomy import is_elsewhere
from securefed.data.dicom.geometry import plane_of
from securefed.data.dicom.ranks import SURE, Rank, ranks
from securefed.data.dicom.roles import ANATOMY, PERHAPS_LOCALISER
from securefed.data.dicom.stacks import Stack
from securefed.data.series_rules import SeriesRules

_USABLE = (ANATOMY, PERHAPS_LOCALISER)
_LOCALISER_SLICES = 9  # at most, in each of its planes


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
        return cls(place, sum(values[:SURE]), tuple(values[SURE:]), number)

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
    if all(a <= b for (a, _), (b, _) in zip(theirs[:SURE], ours[:SURE], strict=True)):
        unknown, days = _visits({**used, name: stack}.values())
        known_not, fewest = _visits(used.values())
        others = "the other modality" if len(used) == 2 else "the other modalities"
        if unknown and not known_not:
            return "has no study date"
        if unknown == known_not and days > fewest:
            return f"{days} days from {others}, the chosen one {fewest}"
    worse = (words for (a, words), (b, _) in zip(theirs, ours, strict=True) if a > b)
    return next(worse, "as good as the chosen one, which comes first")
