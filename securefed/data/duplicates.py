"""Find one image in two places: under two patient ids, or as two modalities of one.

Public collections hold hundreds of copies, and a copy on both sides of a split makes any accuracy
and any privacy figure wrong. Identical images are found by their bytes, also mirrored or turned by
right angles, as by those who enlarge a data set. Nearly identical ones are found by a difference
hash of 8 x 8 bits (Krawetz 2013: is each area brighter than its right-hand neighbour?), which
survives rescaling, recompression and brightness, and confirmed by the correlation of 32 x 32
thumbnails, since all heads look somewhat alike. Cropped copies, and near ones that are turned or
mirrored too, are not found, and a patient with two ids and different images cannot be.
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
NEAR_SLICES = 10_000  # all patients together, some seconds; the time grows with the square
_THUMBNAIL = 32
_BLOCK = 512  # images compared with all others at a time, to bound memory


@dataclass(frozen=True)
class View:
    """Where an image stands; slices count from 0."""

    patient: str = field(repr=False)
    modality: str
    slice: int

    def __str__(self) -> str:
        return f"{self.modality.upper()} slice {self.slice}"


@dataclass(frozen=True)
class Duplicate:
    """Two places that show the same image, or nearly the same.

    Two patients', or two modalities of one patient (identical only: they show one head).
    """

    identical: bool
    first: View
    second: View


@dataclass(frozen=True)
class _Gallery:
    """All images that show anything, of one modality."""

    views: list[View]
    patients: NDArray[np.intp]  # (images,) index of the patient
    digests: list[bytes]
    hashes: NDArray[np.uint64]  # (images,)
    thumbnails: NDArray[np.float32]  # (images, 32 * 32), zero mean, unit length


def find_duplicates(patients: Sequence[Patient]) -> list[Duplicate]:
    """Places that show one image, the identical ones first.

    Blank slices are ignored. An image that occurs n times gives n - 1 identical pairs, each with
    its first occurrence. Near ones are looked for within a modality and up to NEAR_SLICES: the time
    grows with their square.
    """
    modalities = patients[0].modalities if patients else ()
    galleries = [_gallery(patients, modality) for modality in modalities]
    pairs = _identical(galleries)
    copies = {pair.second for pair in pairs}
    if too_many_for_near(patients):
        return pairs
    for gallery in galleries:
        near = ((gallery.views[a], gallery.views[b]) for a, b in _near(gallery))
        pairs += [Duplicate(False, a, b) for a, b in near if a not in copies and b not in copies]
    return pairs


def too_many_for_near(patients: Sequence[Patient]) -> bool:
    """Whether only identical images are looked for."""
    return sum(patient.slices for patient in patients) > NEAR_SLICES


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
    views: list[View] = []
    indices: list[int] = []
    digests: list[bytes] = []
    hashes = [np.zeros(0, np.uint64)]
    thumbnails = [np.zeros((0, _THUMBNAIL**2), np.float32)]
    for index, patient in enumerate(patients):
        images = patient.images_of(modality)
        shown = np.flatnonzero(images.std(axis=(1, 2)) > 1)
        if not len(shown):
            continue
        views += [View(patient.patient_id, modality, int(number)) for number in shown]
        indices += [index] * len(shown)
        digests += [_digest(images[number]) for number in shown]
        hashes.append(difference_hash(images[shown]))
        small = _shrink(images[shown], _THUMBNAIL, _THUMBNAIL).reshape(len(shown), -1)
        small = small - small.mean(axis=1, keepdims=True)
        thumbnails.append(small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6))
    return _Gallery(
        views, np.array(indices), digests, np.concatenate(hashes), np.concatenate(thumbnails)
    )


def _digest(image: NDArray[np.uint8]) -> bytes:
    """The same for an image, its mirror image, and both turned by right angles."""
    views = (np.rot90(side, turns) for side in (image, image.T) for turns in range(4))
    return min(hashlib.sha256(view.tobytes()).digest() for view in views)


def _identical(galleries: Sequence[_Gallery]) -> list[Duplicate]:
    first: dict[bytes, View] = {}
    pairs = []
    for gallery in galleries:
        for view, digest in zip(gallery.views, gallery.digests, strict=True):
            earlier = first.setdefault(digest, view)
            # One patient's slice may stand twice in a volume; two modalities are never one image.
            if (earlier.patient, earlier.modality) != (view.patient, view.modality):
                pairs.append(Duplicate(True, earlier, view))
    return pairs


def _near(gallery: _Gallery) -> list[tuple[int, int]]:
    """Pairs of different patients within NEAR_BITS whose thumbnails agree too."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(gallery.views), _BLOCK):
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
