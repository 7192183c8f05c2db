"""Find one image under two patient ids: identical, or nearly so.

Public collections hold hundreds of copies, and a copy on both sides of a split makes any accuracy
and any privacy figure wrong. Identical images are found by their bytes. Nearly identical ones are
found by a difference hash of 8 x 8 bits (Krawetz 2013: is each area brighter than its right-hand
neighbour?), which survives rescaling, recompression and brightness, and confirmed by the
correlation of 32 x 32 thumbnails, since all heads look somewhat alike. Rotated, mirrored or
cropped copies are not found, and a patient with two ids and different images cannot be.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from securefed.data.samples import Images, Patient

NEAR_BITS = 4  # of 64
NEAR_CORRELATION = 0.99
_THUMBNAIL = 32
_BLOCK = 512  # images compared with all others at a time, to bound memory


@dataclass(frozen=True)
class Duplicate:
    """Two slices of different patients that show the same image; slices count from 0."""

    modality: str  # "ct" or "mri"
    identical: bool
    first: tuple[str, int] = field(repr=False)  # patient id, slice
    second: tuple[str, int] = field(repr=False)

    def describe(self) -> str:
        """One line for the operator, with both pseudonyms."""
        how = "is identical to" if self.identical else "looks like"
        (a, i), (b, j) = self.first, self.second
        return f"{self.modality} slice {j} of patient {b} {how} slice {i} of patient {a}"


@dataclass(frozen=True)
class _Gallery:
    """All images of a modality that show anything."""

    owners: list[tuple[str, int]]
    patients: NDArray[np.intp]  # (images,) index of the patient
    digests: list[bytes]
    hashes: NDArray[np.uint64]  # (images,)
    thumbnails: NDArray[np.float32]  # (images, 32 * 32), zero mean, unit length


def find_duplicates(patients: Sequence[Patient]) -> list[Duplicate]:
    """Pairs of slices of different patients that are identical or nearly so.

    Blank slices are ignored. An image that occurs n times gives n - 1 identical pairs, each with
    its first occurrence. Time grows with the square of the number of images: 10,000 take seconds.
    """
    pairs: list[Duplicate] = []
    for modality in ("ct", "mri"):
        gallery = _gallery(patients, modality)
        if not gallery.owners:
            continue
        identical = _identical(gallery)
        pairs += [
            Duplicate(modality, True, gallery.owners[a], gallery.owners[b]) for a, b in identical
        ]
        copies = {second for _, second in identical}
        pairs += [
            Duplicate(modality, False, gallery.owners[a], gallery.owners[b])
            for a, b in _near(gallery)
            if a not in copies and b not in copies
        ]
    return pairs


def difference_hash(images: Images) -> NDArray[np.uint64]:
    """(images,) 64-bit hash of (images, size, size): bit set where an area outshines its left."""
    shrunk = _shrink(images, 8, 9)
    bits = (shrunk[:, :, 1:] > shrunk[:, :, :-1]).reshape(len(images), 8, 8)
    packed = np.packbits(bits, axis=-1).reshape(len(images), 8)
    return np.ascontiguousarray(packed).view(np.uint64).reshape(len(images))


@lru_cache(maxsize=32)
def _areas(size: int, parts: int) -> NDArray[np.float32]:
    """(parts, size) weights that average `size` pixels to `parts` areas of equal width."""
    edges = np.arange(parts + 1) * (size / parts)
    left = np.maximum(edges[:-1, None], np.arange(size)[None, :])
    right = np.minimum(edges[1:, None], np.arange(1, size + 1)[None, :])
    return np.asarray(np.maximum(right - left, 0) * (parts / size), dtype=np.float32)


def _shrink(images: Images, rows: int, columns: int) -> NDArray[np.float32]:
    size = images.shape[1]
    return np.asarray(_areas(size, rows) @ images.astype(np.float32) @ _areas(size, columns).T)


def _gallery(patients: Sequence[Patient], modality: str) -> _Gallery:
    owners: list[tuple[str, int]] = []
    indices: list[int] = []
    digests: list[bytes] = []
    hashes = [np.zeros(0, np.uint64)]
    thumbnails = [np.zeros((0, _THUMBNAIL**2), np.float32)]
    for index, patient in enumerate(patients):
        images: Images = getattr(patient, modality)
        shown = np.flatnonzero(images.std(axis=(1, 2)) > 1)
        if not len(shown):
            continue
        owners += [(patient.patient_id, int(number)) for number in shown]
        indices += [index] * len(shown)
        digests += [hashlib.sha256(images[number].tobytes()).digest() for number in shown]
        hashes.append(difference_hash(images[shown]))
        small = _shrink(images[shown], _THUMBNAIL, _THUMBNAIL).reshape(len(shown), -1)
        small = small - small.mean(axis=1, keepdims=True)
        thumbnails.append(small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6))
    return _Gallery(
        owners, np.array(indices), digests, np.concatenate(hashes), np.concatenate(thumbnails)
    )


def _identical(gallery: _Gallery) -> list[tuple[int, int]]:
    first: dict[bytes, int] = {}
    pairs = []
    for index, digest in enumerate(gallery.digests):
        earlier = first.setdefault(digest, index)
        if gallery.patients[earlier] != gallery.patients[index]:
            pairs.append((earlier, index))
    return pairs


def _near(gallery: _Gallery) -> list[tuple[int, int]]:
    """Pairs of different patients within NEAR_BITS whose thumbnails agree too."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(gallery.owners), _BLOCK):
        block = slice(start, start + _BLOCK)
        distance = np.bitwise_count(gallery.hashes[block, None] ^ gallery.hashes[None, :])
        # One matrix product costs less than gathering the many pairs of similar hash.
        agreement = gallery.thumbnails[block] @ gallery.thumbnails.T
        close = (distance <= NEAR_BITS) & (agreement >= NEAR_CORRELATION)
        a, b = np.nonzero(close)
        a += start
        apart = (a < b) & (gallery.patients[a] != gallery.patients[b])
        pairs += zip(a[apart].tolist(), b[apart].tolist(), strict=True)
    return pairs
