"""The body of a phantom: a head of ellipsoid shells, folded cortex, ventricles, and lesions.

Everything is drawn for all slices of a patient at once, as what a modality would show without
noise: Hounsfield units, MRI signal (CSF on T2 = 1). Coordinates: x to the image's right, y to its
bottom (posterior), both in half image widths; divided by the head's semi-axes they are "head
coordinates", in which the scalp is the unit ellipse of the middle slice; z in half head heights.
Tissue values follow the table in docs/phantom.md. Nothing here knows labels or hospitals.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Tissue:
    """What a tissue is to each way of looking at it.

    Attributes:
        hu: Hounsfield units.
        t1, t2, flair: MRI signal, CSF on T2 = 1; FLAIR is T2 without the signal of fluid.
        uptake, flow: of glucose, and of blood, grey matter = 1.
    """

    hu: float
    t1: float
    t2: float
    flair: float
    uptake: float
    flow: float


Values = Callable[[Tissue], float]  # what a modality shows of a tissue

AIR = Tissue(-1000.0, 0.0, 0.0, 0.0, 0.0, 0.0)
SCALP = Tissue(-20.0, 0.75, 0.55, 0.60, 0.15, 0.10)
BONE = Tissue(900.0, 0.08, 0.05, 0.05, 0.1, 0.05)
CSF = Tissue(6.0, 0.12, 1.0, 0.08, 0.05, 0.05)
GREY = Tissue(37.0, 0.45, 0.60, 0.65, 1.0, 1.0)
WHITE = Tissue(29.0, 0.65, 0.42, 0.50, 0.35, 0.30)

# Outer surface of each shell, as a share of the head; inside the last is the brain.
SHELLS = ((1.0, SCALP), (0.94, BONE), (0.84, CSF), (0.80, GREY))
BRAIN_RADIUS, CORTEX_RADIUS = 0.80, 0.66
HEAD_WIDTH, HEAD_LENGTH = 0.76, 0.92  # semi-axes of the scalp, in half image widths
TAPER = 0.14  # of the width: a head is narrower at the front and wider at the back
CORE_SHARE = 0.6  # radius of the dense core over the radius of the mass
VISIBLE_RADIUS = 0.06  # a slice through a thinner part of the core shows nothing (half widths)
LOWEST_OEDEMA = 8.0  # HU: oedema approaches water, however high the contrast

_RADII = 1024  # entries of the radial tissue tables
_FURTHEST = 2.5  # largest normalised radius in the tables; the image corner is nearer


@dataclass(frozen=True)
class Frame:
    """Where the pixels of one patient lie, after rotation and warp.

    x, y, plane are (size, size): head coordinates and x^2 + y^2; radius is (slices, size, size),
    the normalised distance from the centre of the head; z is (slices,).
    """

    x: Field
    y: Field
    plane: Field
    radius: Field
    z: Field
    edge: float  # one pixel in head coordinates: the width of a tissue border


@dataclass(frozen=True)
class Place:
    """Centre of a lesion: polar head coordinates in plane, and the height.

    With a turn its section lies elsewhere in each slice, around the midline: many spots.
    """

    distance: float
    angle: float  # radians, in the slice at z
    z: float
    turn: float = 0.0  # radians from slice to slice


@dataclass(frozen=True)
class Shape:
    """Form of a lesion, the same wherever it is put."""

    radius: float  # of the mass, in half image widths
    wobble: float  # relative depth of the three-lobed outline
    phase: float  # radians


@lru_cache(maxsize=32)
def smooth_basis(size: int, knots: int) -> Field:
    """(size, knots) matrix B so that B c B^T turns (knots, knots) normals into a smooth field.

    Gaussian bumps at evenly spaced knots; rows have unit length, so the field has unit variance.
    """
    pixels = np.linspace(0, 1, size)[:, None]
    centres = np.linspace(0, 1, knots)[None, :]
    basis = np.exp(-0.5 * ((pixels - centres) * (knots - 1) / 0.6) ** 2)
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    return basis.astype(np.float32)


def smooth_field(size: int, coarse: Field) -> Field:
    """Upsample (..., knots, knots) normals to a smooth (..., size, size) field of unit variance."""
    basis = smooth_basis(size, coarse.shape[-1])
    return np.asarray(basis @ coarse @ basis.T, dtype=np.float32)


def make_frame(size: int, z: Field, rotation: float, warp: Field) -> Frame:
    """Rotate by `rotation` radians and bend by `warp`, (2, knots, knots) in head coordinates."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    across, down = line[None, :], line[:, None]
    cos, sin = np.float32(np.cos(rotation)), np.float32(np.sin(rotation))
    bend = smooth_field(size, warp)
    y = (cos * down - sin * across) / np.float32(HEAD_LENGTH) + bend[1]
    width = np.float32(HEAD_WIDTH) * (1 + np.float32(TAPER) * np.clip(y, -1, 1))
    x = (cos * across + sin * down) / width + bend[0]
    plane = x * x + y * y
    radius = np.sqrt(plane[None] + (z * z)[:, None, None])
    return Frame(x, y, plane, radius, z, edge=2 / size / HEAD_WIDTH)


@dataclass(frozen=True)
class Head:
    """Where the tissues of one head are: shells by radius, then the others, one over another.

    Attributes:
        index: into a radial table, (slices, size, size).
        layers: tissue, and its share of each voxel, (slices, size, size).
        edge: of the shells' borders, in head coordinates.
    """

    index: NDArray[np.intp]
    layers: tuple[tuple[Tissue, Field], ...]
    edge: float


def make_head(
    frame: Frame, folds: Field, ventricle: float, further: tuple[tuple[Tissue, Field], ...] = ()
) -> Head:
    """A head without lesions.

    folds: (slices, size, size) smooth unit-variance field that folds the cortex.
    ventricle: size of the ventricles, about 0.8 to 1.2.
    further: layers over these, as of Head.
    """
    index = np.minimum(frame.radius * np.float32(_RADII / _FURTHEST), _RADII - 1).astype(np.intp)
    border = 1 / np.float32(frame.edge)
    depth = CORTEX_RADIUS - frame.radius + np.clip(0.08 * folds, -0.1, 0.1)
    white = np.clip(depth * border + 0.5, 0, 1)
    # Sulci: where the folding field crosses zero, fluid reaches into the cortex.
    sulci = np.clip(1 - np.abs(folds) * 4, 0, 0.9)
    sulci *= np.clip((frame.radius - 0.69) * border, 0, 1) * (frame.radius < BRAIN_RADIUS)
    layers = ((WHITE, white), (CSF, sulci), (CSF, _ventricles(frame, ventricle)), *further)
    return Head(index, layers, frame.edge)


def draw_head(head: Head, values: Values) -> Field:
    """What a modality shows of a head without noise, (slices, size, size)."""
    shells = tuple((outer, values(tissue)) for outer, tissue in SHELLS)
    image = _shell_table(head.edge, values(AIR), shells)[head.index]
    for tissue, share in head.layers:
        image += share * (np.float32(values(tissue)) - image)
    return np.asarray(image, dtype=np.float32)


@dataclass(frozen=True)
class Window:
    """The box of voxels around a lesion, so that lesions cost little.

    where indexes (slices, rows, columns); radius is the distance from the centre over the lesion's
    own radius in that slice and direction; border is radii per pixel; brain masks the skull out.
    """

    where: tuple[slice, slice, slice]
    radius: Field
    border: Field
    brain: Field

    def share(self, limit: float) -> Field:
        """Share of each voxel that lies within `limit` lesion radii, anti-aliased."""
        soft = np.clip((limit - self.radius) * self.border + np.float32(0.5), 0, 1)
        return np.asarray(soft * self.brain, dtype=np.float32)


def slice_radii(z: Field, place: Place, shape: Shape) -> Field:
    """Radius of the lesion in each slice, in half image widths; 0 where the slice misses it."""
    height = 1.2 * shape.radius
    share = 1 - ((z - place.z) / height) ** 2
    return np.asarray(shape.radius * np.sqrt(np.maximum(share, 0)), dtype=np.float32)


def visible_slices(z: Field, place: Place, shape: Shape) -> NDArray[np.bool_]:
    """Slices in which the lesion's core is thick enough to be seen."""
    return np.asarray(CORE_SHARE * slice_radii(z, place, shape) > VISIBLE_RADIUS)


def centre_pixel(frame: Frame, place: Place) -> tuple[int, float, float]:
    """(slice index, row, column) nearest to a place."""
    distance = plane_distance(frame.x, frame.y, place)
    row, column = np.unravel_index(int(distance.argmin()), distance.shape)
    return int(np.abs(frame.z - place.z).argmin()), float(row), float(column)


def lesion_window(frame: Frame, place: Place, shape: Shape) -> Window:
    """Cut out the voxels that a lesion may touch.

    The place is always at or near a slice, so at least one slice is cut.
    """
    size = frame.x.shape[0]
    middle, row, column = centre_pixel(frame, place)
    reach = int(np.ceil(shape.radius * (1 + shape.wobble) * size / 2)) + 3
    rows = columns = slice(0, size)
    if not place.turn:
        rows = slice(max(int(row) - reach, 0), int(row) + reach + 1)
        columns = slice(max(int(column) - reach, 0), int(column) + reach + 1)
    radii = slice_radii(frame.z, place, shape)
    touched = np.flatnonzero(radii > 0)
    slices = slice(int(touched[0]), int(touched[-1]) + 1)
    x, y = frame.x[rows, columns], frame.y[rows, columns]
    turns = range(slices.start - middle, slices.stop - middle) if place.turn else range(1)
    spots = (replace(place, angle=place.angle + place.turn * number) for number in turns)
    outline = np.stack([_outline(x, y, spot, shape) for spot in spots])
    in_slice = np.maximum(radii[slices], np.float32(1e-3))[:, None, None]
    where = (slices, rows, columns)
    return Window(
        where,
        radius=np.asarray(outline / in_slice, dtype=np.float32),
        border=np.asarray(in_slice * (size / 2), dtype=np.float32),
        brain=(frame.radius[where] < BRAIN_RADIUS).astype(np.float32),
    )


def draw_core(ct: Field, window: Window, core: float, oedema: float) -> None:
    """Put a core `core` HU above white matter, in oedema of `oedema` HU (0: none), in place."""
    part = ct[window.where]
    if oedema:
        part += window.share(1) * (max(WHITE.hu + oedema, LOWEST_OEDEMA) - part)
    if core:
        part += window.share(CORE_SHARE) * (WHITE.hu + core - part)


def draw_mass(
    image: Field, window: Window, white: float, rim: float, fill: float, brightest: float
) -> None:
    """Raise an image over white matter by `rim` in an outer shell and `fill` inside, in place.

    No rim and no fill (contrast 0) leaves the image as it was.

    Args:
        brightest: what no lesion exceeds, however high the contrast.
    """
    if rim == 0 and fill == 0:
        return
    part = image[window.where]
    shell = np.clip(1.5 - np.abs(window.radius - 0.75) * 6, 0, 1)
    target = np.clip(white + fill + (rim - fill) * shell, 0, brightest)
    part += window.share(1) * (target - part)


def _outline(x: Field, y: Field, place: Place, shape: Shape) -> NDArray[np.float64]:
    """Distance from a place over the lesion's own radius in that direction, times its radius."""
    centre_x, centre_y = _centre(place)
    lobes = np.cos(3 * np.arctan2(y - centre_y, x - centre_x) + shape.phase)
    return np.asarray(plane_distance(x, y, place) / (1 + shape.wobble * lobes))


def _centre(place: Place) -> tuple[float, float]:
    return place.distance * float(np.cos(place.angle)), place.distance * float(np.sin(place.angle))


def plane_distance(x: Field, y: Field, place: Place) -> Field:
    """Distance from a place in half image widths."""
    centre_x, centre_y = _centre(place)
    across, down = (x - centre_x) * HEAD_WIDTH, (y - centre_y) * HEAD_LENGTH
    return np.asarray(np.sqrt(across * across + down * down))


@lru_cache(maxsize=256)
def _shell_table(edge: float, air: float, shells: tuple[tuple[float, float], ...]) -> Field:
    """Value by normalised radius, with borders one pixel wide."""
    radius = np.arange(_RADII) * (_FURTHEST / _RADII)
    table = np.full(_RADII, air)
    for outer, value in shells:
        share = np.clip((outer - radius) / edge + 0.5, 0, 1)
        table += share * (value - table)
    return table.astype(np.float32)


def _ventricles(frame: Frame, size: float) -> Field:
    """Two lateral ventricles, mirrored at the midline, apart behind, tapering over the slices."""
    bow = np.abs(frame.x) - 0.10 - 0.1 * frame.y - 0.4 * frame.y * frame.y
    outline = np.sqrt((bow / 0.07) ** 2 + (frame.y / 0.33) ** 2)
    taper = size * np.sqrt(np.maximum(1 - ((frame.z - 0.05) / 0.4) ** 2, 0))
    share = np.clip((taper[:, None, None] - outline[None]) * (0.09 / frame.edge) + 0.5, 0, 1)
    share[taper == 0] = 0
    return np.asarray(share)
