"""Which volume of a patient is used for each modality; and why the others are not.

What a file is called says its modality (names); rules of the operator come before that, and say
more: a rule with patterns of `description`, which is the file's place in the tree, takes files
whose names say nothing. Of several the one in the session with the most of the modalities is used,
then the first by its place. A person may choose otherwise (data/choice.py).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from securefed.data.choice import Choice
from securefed.data.dicom.contrast import named_contrast, named_weighting
from securefed.data.dicom.geometry import plane_of
from securefed.data.dicom.words import plain_words
from securefed.data.nifti.files import read_header
from securefed.data.nifti.names import FileName, stem_of
from securefed.data.nifti.volume import grid_of
from securefed.data.series_rule import Described
from securefed.data.series_rules import SeriesRules
from securefed.data.walk import place_of
from securefed.wording import counted


@dataclass(frozen=True)
class Volume:
    """One file, and what is known of it before its voxels are read."""

    path: Path = field(repr=False)
    place: str = field(repr=False)  # in the tree
    session: str = field(repr=False)
    slices: int
    described: Described

    @classmethod
    def read(cls, path: Path, root: Path, name: FileName) -> "Volume":
        """Look at a file's header.

        Raises:
            DataError: as `read_header`.
        """
        grid, _ = grid_of(read_header(path))
        corners = np.zeros((1, 3)) if grid.positions is None else grid.positions
        description = description_of(path, root)
        words = plain_words(description)
        described = Described(
            kind="",
            description=description,
            sequence=named_weighting(words),
            contrast=name.modality == "t1c" or named_contrast(words) is True,
            plane=plane_of(grid.axes),
            thickness_mm=_distance_mm(corners),
            named=name.modality,
        )
        return cls(path, place_of(path, root), name.session, len(corners), described)

    def __str__(self) -> str:
        facts = [counted(self.slices, "slice"), self.described.plane]
        return f"{self.place} ({', '.join(facts)})"


def description_of(path: Path, root: Path) -> str:
    """What rules look for their patterns in: a file's place in the tree, without .nii.gz."""
    place = path.relative_to(root)
    return place.with_name(stem_of(path) or path.name).as_posix()


def choose(volumes: Sequence[Volume], rules: SeriesRules) -> Choice[Volume]:
    """Choose a patient's volume of each modality."""
    takers = {id(volume): rules.taker(volume.described) for volume in volumes}
    left = [(v, rules.why_left(v.described)) for v in volumes if takers[id(v)] is None]
    able: dict[str, list[tuple[int, Volume]]] = {name: [] for name in rules.modalities}
    for volume in volumes:
        taker = takers[id(volume)]
        if taker is not None:
            able[taker[0]].append((taker[1], volume))
    of_session = Counter(
        session for found in able.values() for session in {v.session for _, v in found}
    )
    used, reasons = {}, {}
    for name, found in able.items():
        ranked = sorted(found, key=lambda each: (each[0], -of_session[each[1].session]))
        if not ranked:
            continue
        (place, chosen), *others = ranked
        used[name], reasons[name] = chosen, rules.why_chosen(name, place, len(ranked))
        for other_place, other in others:
            if other_place != place:
                why = f"taken by rule {other_place}, the chosen one by rule {place}"
            elif of_session[other.session] < of_session[chosen.session]:
                why = "its session has fewer of the modalities"
            else:
                why = "as good as the chosen one, which comes first"
            left.append((other, why))
    rivals = {name: tuple(v for _, v in found) for name, found in able.items() if found}
    return Choice(used, left, rivals, reasons)


def _distance_mm(corners: NDArray[np.float64]) -> float | None:
    return float(np.linalg.norm(corners[1] - corners[0])) if len(corners) > 1 else None
