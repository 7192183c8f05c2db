"""From the images of a patient to stacks: images that can be one volume.

Identifiers are not trusted, since anonymisers and some machines repeat them or give each slice one
of its own. Content decides: images of one SeriesInstanceUID that differ in modality, study, name,
role, plane, pixels or echo are different stacks; single images that differ in nothing but their
UIDs are one stack; and so are series that continue each other along the table (a head in two
series). An image that lies twice, pixel for pixel, counts once; different images at one place are
told apart by time or phase, and where nothing tells them apart the stack is refused.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from securefed.data.dicom.contrast import DYNAMIC
from securefed.data.dicom.geometry import plane_of
from securefed.data.dicom.header import Slice, Traits
from securefed.data.dicom.likeness import Geometries
from securefed.data.dicom.pixels import digest
from securefed.data.names import shown
from securefed.data.series_rule import Described
from securefed.data.walk import place_of
from securefed.errors import DataError

_SAME_PLACE_MM = 0.01
_CONTINUES = 1.6  # a gap up to this many slice distances is no gap between two series
_EVEN = 1.05  # largest by smallest distance of slices that two series share out
_SIDEWAYS_MM = 10.0  # largest step aside of a series that continues another
_DYNAMIC = 3  # more images at one place are a series in time

Refusals = list[tuple[Slice, str]]


@dataclass(frozen=True)
class Stack:
    """Images of one volume, in the order of their places, and what was done to collect them."""

    slices: tuple[Slice, ...] = field(repr=False)
    copies: tuple[Slice, ...] = field(default=(), repr=False)  # left out: they lay here twice
    unreadable: tuple[tuple[Slice, str], ...] = field(default=(), repr=False)  # left out, and why
    notes: tuple[str, ...] = ()  # what is unusual about the collection

    @property
    def first(self) -> Slice:
        """Any of the images, for what is the same in all."""
        return self.slices[0]

    @property
    def traits(self) -> Traits:
        """What kind of series it is."""
        return self.first.traits

    @cached_property
    def heights(self) -> NDArray[np.float64] | None:
        """(slices,) mm along the normal, ascending; None where an image says no place."""
        return _heights(self.slices)

    @property
    def described(self) -> Described:
        """What rules look at."""
        first, traits = self.first, self.traits
        return Described(
            kind=first.modality,
            description=traits.description,
            sequence=traits.weighting,
            contrast=traits.contrast,
            plane=plane_of(first.axes),
            thickness_mm=first.thickness,
            image_type=first.image_type,
        )

    @property
    def name(self) -> str:
        """How a person finds it: number and description of the series, or a file of it."""
        number = "" if self.traits.number is None else f" {self.traits.number}"
        words = self.traits.description
        return f"series{number} {shown(words) if words else 'of ' + place_of(self.first.path)}"


def stacks_of(slices: Iterable[Slice]) -> tuple[list[Stack], Refusals]:
    """The stacks of one patient's images, and an image and the reason of each refused group."""
    geometries = Geometries()

    def kind(item: Slice) -> Hashable:
        return item.modality, item.study_date, geometries.number(item), item.traits

    stacks: list[Stack] = []
    refused: Refusals = []
    groups = _grouped(slices, lambda item: (kind(item), item.series, item.study, item.frame))
    for group in _joined_singles(groups, kind):
        try:
            stacks += _by_moment(group)
        except DataError as error:
            refused.append((group[0], str(error)))
    return _joined_ends(stacks, geometries), refused


def _grouped(slices: Iterable[Slice], key: Callable[[Slice], Hashable]) -> list[list[Slice]]:
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for item in slices:
        groups[key(item)].append(item)
    return list(groups.values())


def _heights(slices: Sequence[Slice]) -> NDArray[np.float64] | None:
    axes = slices[0].axes
    places = [item.position for item in slices if item.position is not None]
    if axes is None or len(places) < len(slices):
        return None
    return np.asarray(np.stack(places) @ np.cross(axes[0], axes[1]))


def _joined_singles(
    groups: list[list[Slice]], kind: Callable[[Slice], Hashable]
) -> list[list[Slice]]:
    """Join groups of one image each that differ only in the UIDs of series, study or frame."""
    whole = [group for group in groups if len(group) > 1 or group[0].position is None]
    singles = [group[0] for group in groups if len(group) == 1 and group[0].position is not None]
    for group in _grouped(singles, kind):
        # A frame for each slice says nothing of where the patient lay.
        apart = len({item.frame for item in group}) > 1
        whole.append([replace(item, frame="") for item in group] if apart else group)
    return whole


def _by_moment(group: list[Slice]) -> list[Stack]:
    """One stack, or one for each moment if several images show one place.

    Raises:
        DataError: nothing tells the images of one place apart.
    """
    parts = _moments(group)
    if parts:
        return _stacks_of_moments(parts, [], [])
    kept, copies, unreadable = _without_copies(group)
    parts = _moments(kept)
    if parts:
        return _stacks_of_moments(parts, copies, unreadable)
    twice = next(each for each in _by_place(kept) if len(each) > 1)
    names = " and ".join(place_of(item.path, item.path.parents[1]) for item in twice[:2])
    raise DataError(
        f"has different images at one place ({names}) and nothing that tells them apart"
    )


def _moments(group: list[Slice]) -> list[list[Slice]]:
    """The images by moment, each place once in each; none if nothing divides them so."""
    repeats = _most_at_one_place(group)
    if repeats == 1:
        return [group]
    for number in range(len(group[0].moments)):
        parts = _grouped(group, lambda item, number=number: item.moments[number])  # type: ignore[misc]
        if len(parts) == repeats and all(_most_at_one_place(part) == 1 for part in parts):
            return parts
    return []


def _stacks_of_moments(
    parts: list[list[Slice]], copies: list[Slice], unreadable: Refusals
) -> list[Stack]:
    count = len(parts)
    stacks = []
    for index, part in enumerate(parts):
        if count > _DYNAMIC:
            traits = replace(part[0].traits, weighting=DYNAMIC)
            part = [replace(item, traits=traits) for item in part]
        notes = (f"has {count} images at each place; this is number {index + 1}",)
        stacks.append(Stack(_ordered(part), notes=notes if count > 1 else ()))
    stacks[0] = replace(stacks[0], copies=tuple(copies), unreadable=tuple(unreadable))
    return stacks


def _without_copies(group: list[Slice]) -> tuple[list[Slice], list[Slice], Refusals]:
    """The images without those that lie at their place already, pixel for pixel."""
    kept: list[Slice] = []
    copies: list[Slice] = []
    unreadable: Refusals = []
    for items in _by_place(group):
        if len(items) == 1:
            kept += items
            continue
        digests: set[bytes] = set()
        for item in items:
            try:
                content = digest(item)
            except DataError as error:
                unreadable.append((item, str(error)))
                continue
            (copies if content in digests else kept).append(item)
            digests.add(content)
    if not kept:
        raise DataError(unreadable[0][1])
    return kept, copies, unreadable


def _by_place(group: Sequence[Slice]) -> list[list[Slice]]:
    """Images in the order of their places, those at one place together.

    The place is the height along the normal, or the InstanceNumber where there is no geometry;
    where there is neither, each image has a place of its own.
    """
    heights = _heights(group)
    if heights is None:
        numbered = sorted(group, key=lambda item: (item.number is None, item.number or 0))
        return _grouped(
            numbered,
            lambda i: (i.path, i.frame_number) if i.number is None else i.number,
        )
    places: list[list[Slice]] = []
    last = -np.inf
    for index in np.argsort(heights, kind="stable"):
        if heights[index] - last > _SAME_PLACE_MM:
            places.append([])
            last = heights[index]
        places[-1].append(group[index])
    return places


def _most_at_one_place(group: Sequence[Slice]) -> int:
    return max(map(len, _by_place(group)))


def _ordered(group: Sequence[Slice]) -> tuple[Slice, ...]:
    return tuple(item for place in _by_place(group) for item in place)


def _joined_ends(stacks: list[Stack], geometries: Geometries) -> list[Stack]:
    """Join stacks that continue each other: a head in two series."""
    alike: dict[Hashable, list[Stack]] = defaultdict(list)
    for stack in stacks:
        first = stack.first
        nameless = replace(first.traits, number=None, description="")
        place = geometries.number(first) if stack.heights is not None else stack.name
        alike[first.modality, first.study_date, first.frame, place, nameless].append(stack)
    joined = []
    for group in alike.values():
        group.sort(key=lambda stack: -np.inf if stack.heights is None else stack.heights[0])
        chain = group[:1]
        for stack in group[1:]:
            if _continues(chain[-1], stack) or _interleaves(chain[-1], stack):
                chain[-1] = _join(chain[-1], stack)
            else:
                chain.append(stack)
        joined += chain
    return sorted(joined, key=lambda stack: stack.first.path)


def _continues(lower: Stack, upper: Stack) -> bool:
    if lower.heights is None or upper.heights is None:
        return False
    steps = np.concatenate([np.diff(lower.heights), np.diff(upper.heights)])
    gap = float(upper.heights[0] - lower.heights[-1])
    reach = _CONTINUES * float(steps.max()) if len(steps) else 0.0
    return _SAME_PLACE_MM < gap <= reach and _in_line(lower.slices[-1], upper.first)


def _interleaves(one: Stack, other: Stack) -> bool:
    """Whether two stacks are the odd and the even slices of one."""
    if one.heights is None or other.heights is None or one.heights[-1] < other.heights[0]:
        return False
    steps = np.diff(np.sort(np.concatenate([one.heights, other.heights])))
    even = steps.min() > _SAME_PLACE_MM and steps.max() <= _EVEN * steps.min()
    return bool(even) and _in_line(one.first, other.first)


def _in_line(one: Slice, other: Slice) -> bool:
    """Whether a slice lies along the normal of another, or nearly."""
    if one.position is None or other.position is None or one.axes is None:
        return False
    normal = np.cross(*one.axes)
    offset = other.position - one.position
    return float(np.linalg.norm(offset - (offset @ normal) * normal)) <= _SIDEWAYS_MM


def _join(lower: Stack, upper: Stack) -> Stack:
    note = f"put together from {lower.name} and {upper.name}"
    return Stack(
        _ordered(lower.slices + upper.slices),
        lower.copies + upper.copies,
        lower.unreadable + upper.unreadable,
        (*lower.notes, *upper.notes, note),
    )
