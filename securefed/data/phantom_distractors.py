"""Small harmless things in a phantom's brain, which every modality shows, whatever the patient has.

Calcified spots (as of the choroid plexus), vessels, and spaces of fluid around them: bright on CT
and dark on MRI, or the other way. They are tissues of the head, laid under its lesions, and drawn
from random numbers of their own: their law depends on nothing that makes a label, so every ceiling
of docs/phantom.md stays where it is, and every image without them too.
"""

import numpy as np

from securefed.data.phantom_anatomy import (
    BRAIN_RADIUS,
    CSF,
    Field,
    Frame,
    Place,
    Tissue,
    plane_distance,
)

MOST = 16  # of a patient; each is there by the same chance
SMALLEST, LARGEST = 0.03, 0.06  # radius in half image widths: 1 to 2 pixels of 64
FURTHEST = 0.62  # from the midline, head coordinates: within the cortex
HEIGHT = 0.15  # half of it, in half head heights: one to three slices
HIGHEST = 0.55
CALCIUM = Tissue(hu=90.0, t1=0.15, t2=0.10, flair=0.10, uptake=0.2, flow=0.2)
VESSEL = Tissue(hu=48.0, t1=0.10, t2=0.08, flair=0.08, uptake=0.8, flow=1.4)
KINDS = (CALCIUM, VESSEL, CSF)


def distractors(
    frame: Frame, mean: float, rng: np.random.Generator
) -> tuple[tuple[Tissue, Field], ...]:
    """Layers of a head (`Head.layers`): each kind's share of each voxel, (slices, size, size).

    Who has some at a mean has these at every larger one too.

    Args:
        mean: how many a patient has on average, 0 to MOST.
    """
    draws = rng.random((MOST, 6))
    shares = {kind: np.zeros_like(frame.radius) for kind in KINDS}
    for present, kind, far, angle, height, size in draws:
        if present < mean / MOST:
            place = Place(
                FURTHEST * float(np.sqrt(far)),  # as many everywhere in the plane
                2 * np.pi * float(angle),
                HIGHEST * (2 * float(height) - 1),
            )
            radius = SMALLEST + (LARGEST - SMALLEST) * float(size)
            share = shares[KINDS[int(kind * len(KINDS))]]
            np.maximum(share, _spot(frame, place, radius), out=share)
    return tuple(shares.items())


def _spot(frame: Frame, place: Place, radius: float) -> Field:
    """Share of each voxel, anti-aliased in the plane."""
    section = radius * np.sqrt(np.maximum(1 - ((frame.z - place.z) / HEIGHT) ** 2, 0))
    pixels = frame.x.shape[0] / 2  # in half an image width
    inside = section[:, None, None] - plane_distance(frame.x, frame.y, place)
    share = np.clip(inside * pixels + 0.5, 0, 1) * (section > 0)[:, None, None]
    return np.asarray(share * (frame.radius < BRAIN_RADIUS), dtype=np.float32)
