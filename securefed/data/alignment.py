"""Bring the MRI of a patient onto the slices of the CT.

Slices of one frame of reference already share coordinates. Otherwise the MRI is registered to the
CT by a rigid transform that maximises Mattes mutual information (Mattes et al. 2003), computed by
SimpleITK on 3 mm grids; without SimpleITK, or if it fails, the scanner coordinates are used as they
are and the pair is flagged. A good metric is no proof of a good match: look at flagged pairs, and
at some of the others. Resampling is linear, along the true positions of tilted or uneven slices.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from securefed.data.dicom.volume import Series

Points = NDArray[np.float64]  # (..., 3), millimetres in patient coordinates

GRID_MM = 3.0
LARGEST_SHIFT_MM, LARGEST_ROTATION_DEGREES = 100.0, 30.0
SINGLE_SLICE_MM = 2.5  # half the thickness assumed for a series of one slice
_LARGEST_EXTENT_MM = 400.0


@dataclass(frozen=True)
class Alignment:
    """How the points of a CT map to those of an MRI.

    status: "same-frame", "registered", "unregistered" (SimpleITK absent) or "failed".
    metric: mutual information in nats after registration, None where there was none.
    """

    status: str
    metric: float | None = None
    rotation: Points = field(default_factory=lambda: np.eye(3), repr=False)  # (3, 3)
    shift: Points = field(default_factory=lambda: np.zeros(3), repr=False)  # (3,) mm

    def apply(self, points: Points) -> Points:
        """MRI coordinates of CT coordinates."""
        return np.asarray(points @ self.rotation.T + self.shift)


def align(ct: Series, mri: Series) -> Alignment:
    """Find where the points of a CT lie in the MRI of the same patient; both need geometry."""
    if ct.frame and ct.frame == mri.frame:
        return Alignment("same-frame")
    try:
        import SimpleITK as sitk  # noqa: N813 - the library's own idiom; an optional extra
    except ImportError:
        return Alignment("unregistered")
    fixed = _as_image(sitk, ct, (-200.0, 400.0))
    moving = _as_image(sitk, mri, tuple(np.percentile(mri.values, (1, 99.5)).tolist()))
    try:
        return _register(sitk, fixed, moving)
    except RuntimeError:  # what SimpleITK raises, for instance when the volumes do not overlap
        return Alignment("failed")


def onto_ct(
    images: NDArray[np.uint8], mri: Series, ct: Series, alignment: Alignment
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Resample 8-bit MRI images at the pixels of the CT.

    Returns:
        (CT slices, CT rows, CT columns) images, black where the MRI shows nothing, and
        (CT slices,) the share of each that the MRI covers.
    """
    volume = images.astype(np.float32)
    resampled = np.zeros(ct.values.shape, dtype=np.uint8)
    covered = np.zeros(len(resampled))
    for index in range(len(resampled)):
        values, inside = _sample(volume, mri, alignment.apply(_pixels(ct, index)))
        resampled[index] = np.asarray(values + 0.5, dtype=np.uint8)
        covered[index] = inside.mean()
    return resampled, covered


def _positions(series: Series) -> Points:
    if series.positions is None:
        raise ValueError("the series has no geometry")
    return series.positions


def _pixels(series: Series, index: int) -> Points:
    """(rows, columns, 3) centres of the pixels of one slice."""
    rows, columns = series.values.shape[1:]
    across, down = series.steps
    grid = np.arange(rows)[:, None, None] * down + np.arange(columns)[None, :, None] * across
    return np.asarray(grid + _positions(series)[index])


def _sample(
    volume: NDArray[np.float32], series: Series, points: Points
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Linear interpolation of a volume at points, 0 outside; and which points are inside."""
    positions = _positions(series)
    heights = positions @ series.normal
    height = points @ series.normal
    if len(heights) == 1:
        number = np.where(np.abs(height - heights[0]) <= SINGLE_SLICE_MM, 0.0, -1.0)
    else:
        number = np.interp(height, heights, np.arange(len(heights)), left=-1, right=-1)
    # The first pixel of a slice between two slices lies between theirs: this follows a tilt.
    origin = np.stack(
        [np.interp(number, np.arange(len(heights)), positions[:, axis]) for axis in range(3)], -1
    )
    across, down = series.steps
    offset = points - origin
    column = offset @ across / (across @ across)
    row = offset @ down / (down @ down)
    rows, columns = series.values.shape[1:]
    inside = (number >= 0) & (row >= 0) & (row <= rows - 1) & (column >= 0)
    inside &= column <= columns - 1
    values = ndimage.map_coordinates(volume, [number, row, column], order=1, mode="nearest")
    return np.where(inside, values, 0).astype(np.float32), inside


def _as_image(sitk: Any, series: Series, limits: tuple[float, float]) -> Any:
    """The series on an axis-parallel grid of GRID_MM, clipped to limits, for registration."""
    rows, columns = series.values.shape[1:]
    across, down = series.steps
    corners = [
        position + step_across * across + step_down * down
        for position in _positions(series)
        for step_across in (0, columns - 1)
        for step_down in (0, rows - 1)
    ]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    counts = np.minimum(high - low, _LARGEST_EXTENT_MM) // GRID_MM + 1
    z, y, x = (low[axis] + GRID_MM * np.arange(counts[axis]) for axis in (2, 1, 0))
    points = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1)
    shifted = np.clip(series.values, *limits) - np.float32(limits[0])
    values, _ = _sample(shifted, series, points)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((GRID_MM,) * 3)
    image.SetOrigin(low.tolist())
    return image


def _register(sitk: Any, fixed: Any, moving: Any) -> Alignment:
    start = sitk.CenteredTransformInitializer(
        fixed,
        moving,
        sitk.Euler3DTransform(),
        sitk.CenteredTransformInitializerFilter.GEOMETRY,
    )
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # fewer orders of summation, so runs agree to micrometres
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.3, seed=1)  # the default seed is the clock
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.005, numberOfIterations=150, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([1.0, 0.0])
    method.SetInitialTransform(start, inPlace=False)
    before = method.MetricEvaluate(fixed, moving)
    transform = sitk.Euler3DTransform(
        sitk.CompositeTransform(method.Execute(fixed, moving)).GetBackTransform()
    )
    return _judge(transform, -float(before), -float(method.GetMetricValue()))


def _judge(transform: Any, before: float, after: float) -> Alignment:
    """Accept a transform that improved the metric and is small enough to be a repositioning."""
    rotation = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    shift = np.array(transform.GetTranslation()) + centre - rotation @ centre
    angle = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    at_centre = float(np.linalg.norm(transform.GetTranslation()))
    if after <= before or at_centre > LARGEST_SHIFT_MM or angle > LARGEST_ROTATION_DEGREES:
        return Alignment("failed", metric=after)
    return Alignment("registered", after, rotation, shift)
