"""Whether scans look like those that a model is for: a distance from public reference scans.

A network answers about any picture, and most surely where it should not. So each modality of an
example, as the network gets it, is described by a few numbers of three kinds: the picture of its
mean over slices, very coarse (`place`); how rough it is, in bright and in dark parts (`noise`); and
its grey values (`grey`). Of each kind the Mahalanobis distance from the references is taken (Lee et
al. 2018, NeurIPS, there of a network's features). Three small distances see what one large one
drowns: a scanner with thrice the noise moves 4 numbers of 50. The largest counts, in units of what
one reference in a hundred exceeds (measured on folds that did not make the statistics); above 1 the
example is unlike.

Of whom: a reference is part of a file for anybody, so it is made of public scans, or of sums over
the training's patients that are noised and paid for (`model.scan_sums`).

Not seen: what these numbers do not describe, such as a finding of another kind, or scans of another
disease. That nothing is unlike does not say that an answer is right.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.errors import RunError
from securefed.model.patients import PatientTensors
from securefed.wording import listed

GRID = 6  # cells along an edge of the coarse picture
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
KINDS = {"place": GRID * GRID, "noise": 4, "grey": len(QUANTILES) + 4}  # how many numbers
STEEPEST = 4 * 255 + 1  # roughnesses there are
FOLDS = 5
EXCEEDED = 0.01  # share of references beyond the threshold, of each modality
FLOOR = 2e-3  # of a roughness: half a grey value
SMALLEST_SPREAD = 1e-3

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]
Numbers = dict[str, Floats]  # kind -> (numbers,), or (examples, numbers)


def numbers_of(images: Images) -> Numbers:
    """What describes one modality of an example.

    Args:
        images: (slices, size, size), one slice or more, at least 8 pixels wide.
    """
    whole = images.astype(np.int16)
    inner = whole[:, 1:-1, 1:-1]
    around = whole[:, :-2, 1:-1] + whole[:, 2:, 1:-1] + whole[:, 1:-1, :-2] + whole[:, 1:-1, 2:]
    rough, bright = np.abs(4 * inner - around), inner > whole.mean()  # rough in 0..1020
    # One pass over the pixels: histograms give every quantile.
    dark_then_bright = np.bincount((rough + STEEPEST * bright).ravel(), minlength=2 * STEEPEST)
    dark, light = dark_then_bright.reshape(2, STEEPEST)
    roughness = [*_quantiles(light, (0.5,)), *_quantiles(dark, (0.5,))]
    roughness += _quantiles(dark + light, (0.25, 0.9))
    levels, values = np.bincount(whole.ravel(), minlength=256), np.arange(256) / 255
    share = levels / levels.sum()
    mean = images.mean(axis=0, dtype=np.float64) / 255
    squares = np.square(whole, dtype=np.int32).mean(axis=0) / 255**2
    between = np.sqrt((squares - mean**2).clip(min=0)).mean()
    spread = np.sqrt(max(share @ values**2 - (share @ values) ** 2, 0.0))
    grey = (each / 255 for each in _quantiles(levels, QUANTILES))
    return {
        "place": _coarse(mean).ravel(),
        "noise": np.log(np.array(roughness) / (4 * 255) + FLOOR),
        "grey": np.array([*grey, between, spread, light.sum() / rough.size, share[0]]),
    }


def _quantiles(counts: NDArray[np.int64], shares: Sequence[float]) -> list[float]:
    """Values below which so many lie, from how often 0, 1, ... occur; 0 of none."""
    reached = counts.cumsum()
    places = np.searchsorted(reached, np.array(shares) * reached[-1])
    return [float(each) for each in places]


def _coarse(picture: Floats) -> Floats:
    """(size, size) to (GRID, GRID) means of cells that are as large as possible alike."""
    cell = np.arange(len(picture)) * GRID // len(picture)
    starts, sizes = np.searchsorted(cell, np.arange(GRID)), np.bincount(cell)
    sums = np.add.reduceat(np.add.reduceat(picture, starts, axis=0), starts, axis=1)
    return np.asarray(sums / np.outer(sizes, sizes))


@dataclass(frozen=True, eq=False)
class _Kind:
    """Numbers of one kind as references have them.

    Attributes:
        mean: (numbers,).
        whitening: (numbers, numbers); the length of (x - mean) @ whitening is the distance.
    """

    mean: Floats
    whitening: Floats = field(repr=False)

    @classmethod
    def of(cls, references: Floats) -> "_Kind":
        mean, spread = references.mean(axis=0), references.std(axis=0) + SMALLEST_SPREAD
        scaled = (references - mean) / spread
        correlation = scaled.T @ scaled / len(scaled)
        ridge = len(mean) / (len(mean) + len(scaled))
        ridged = (1 - ridge) * correlation + ridge * np.eye(len(mean))
        values, axes = np.linalg.eigh(ridged)
        return cls(mean, axes / np.sqrt(values) / spread[:, None])

    def distance(self, of: Floats) -> Floats:
        """(..., numbers) to (...)."""
        return np.asarray(np.linalg.norm((of - self.mean) @ self.whitening, axis=-1))

    def in_units_of(self, distance: float) -> "_Kind":
        return _Kind(self.mean, self.whitening / distance)


@dataclass(frozen=True, eq=False)
class Reference:
    """What scans of each modality look like.

    Attributes:
        of: modality -> kind -> its numbers, in units of the threshold.
    """

    of: Mapping[str, Mapping[str, _Kind]] = field(repr=False)

    @classmethod
    def made(cls, group: PatientTensors) -> "Reference":
        """From public examples, some hundreds of them, who lack no modality."""
        return cls(
            {
                name: _fitted([_numbers(group, row, at) for row in range(len(group))])
                for at, name in enumerate(group.modalities)
            }
        )

    @classmethod
    def of_balls(cls, means: Floats, thresholds: Floats, modalities: Sequence[str]) -> "Reference":
        """From means and plain distances alone, where correlations are not known.

        Args:
            means: (modalities, numbers), kinds in order.
            thresholds: (modalities, kinds), positive.
        """
        starts = np.cumsum([0, *KINDS.values()])[:-1]
        return cls(
            {
                name: {
                    kind: _Kind(mean, np.eye(len(mean)) / threshold)
                    for kind, mean, threshold in zip(
                        KINDS, np.split(of, starts[1:]), far, strict=True
                    )
                }
                for name, of, far in zip(modalities, means, thresholds, strict=True)
            }
        )

    @classmethod
    def of_arrays(
        cls, arrays: Mapping[str, NDArray[np.generic]], modalities: Sequence[str]
    ) -> "Reference":
        """From what `arrays` gave.

        Raises:
            RunError: something is missing or too much, of another shape or type, or not a number.
        """
        expected = {(name, kind): f"{name}.{kind}" for name in modalities for kind in KINDS}
        if arrays.keys() != set(expected.values()):
            raise RunError("the reference scans are not of the model's modalities")
        found: dict[str, dict[str, _Kind]] = {name: {} for name in modalities}
        for (name, kind), key in expected.items():
            array, size = arrays[key], KINDS[kind]
            if array.shape != (size + 1, size) or array.dtype != np.float64:
                raise RunError(f"reference {key} is {array.dtype} {array.shape}: it is damaged")
            numbers = array.astype(np.float64)
            if not np.isfinite(numbers).all() or np.linalg.matrix_rank(numbers[1:]) < size:
                raise RunError(f"reference {key} gives no distance: it is damaged")
            found[name][kind] = _Kind(numbers[0], numbers[1:])
        return cls(found)

    def arrays(self) -> dict[str, Floats]:
        """MODALITY.KIND -> (numbers + 1, numbers): the mean, then the whitening."""
        return {
            f"{name}.{kind}": np.concatenate([each.mean[None], each.whitening])
            for name, kinds in self.of.items()
            for kind, each in kinds.items()
        }

    def distance(self, modality: str, numbers: Numbers) -> float:
        """From the references of a modality; unlike them above 1."""
        return max(float(each.distance(numbers[kind])) for kind, each in self.of[modality].items())

    def unlike(self, group: PatientTensors) -> list[str]:
        """What is unlike of each example, in words; "" where nothing is."""
        return [self._unlike(group, row) for row in range(len(group))]

    def _unlike(self, group: PatientTensors, row: int) -> str:
        there = [at for at in range(len(group.modalities)) if bool(group.present[row, at].any())]
        numbers = {group.modalities[at]: _numbers(group, row, at) for at in there}
        strange = [name for name, each in numbers.items() if self.distance(name, each) > 1]
        if not strange:
            return ""
        looks = {name: self._as(numbers[name], set(self.of) - {name}) for name in strange}
        for name, other in looks.items():
            if other and looks.get(other) == name:
                return f"{listed(sorted((name, other)))} look swapped"
        return ", ".join(
            f"{name} looks like {other}" if other else f"{name} is unlike"
            for name, other in looks.items()
        )

    def _as(self, numbers: Numbers, others: Iterable[str]) -> str:
        """The modality whose references they are like; "" for none."""
        near = {name: self.distance(name, numbers) for name in others}
        nearest = min(near, key=near.__getitem__, default="")
        return nearest if nearest and near[nearest] <= 1 else ""


def _numbers(group: PatientTensors, row: int, modality: int) -> Numbers:
    return numbers_of(group.images[row, modality][group.present[row, modality]].cpu().numpy())


def numbers_of_examples(group: PatientTensors) -> Floats:
    """(examples, modalities, numbers), kinds in order; not a number where there is no scan."""
    found = np.full((len(group), len(group.modalities), sum(KINDS.values())), np.nan)
    there = group.present.any(dim=2).cpu()
    for row, at in there.nonzero().tolist():
        found[row, at] = np.concatenate(list(_numbers(group, row, at).values()))
    return found


def _fitted(references: Sequence[Numbers]) -> dict[str, _Kind]:
    """One modality's kinds, in units that one reference in a hundred exceeds in any of them."""
    stacked = {kind: np.stack([each[kind] for each in references]) for kind in KINDS}
    far = {kind: _left_out(numbers) for kind, numbers in stacked.items()}
    units = {kind: float(np.quantile(each, 1 - EXCEEDED)) for kind, each in far.items()}
    largest = np.max([far[kind] / units[kind] for kind in KINDS], axis=0)
    once_more = float(np.quantile(largest, 1 - EXCEEDED))
    return {
        kind: _Kind.of(numbers).in_units_of(units[kind] * once_more)
        for kind, numbers in stacked.items()
    }


def _left_out(numbers: Floats) -> Floats:
    """(references,) distances of each from those of the other folds."""
    found = np.empty(len(numbers))
    for fold in range(FOLDS):
        out = np.arange(len(numbers)) % FOLDS == fold
        found[out] = _Kind.of(numbers[~out]).distance(numbers[out])
    return found
