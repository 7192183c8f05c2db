"""Grey values of a scan on a standard scale, so that scanners and protocols differ less.

Landmark standardisation (Nyul, Udupa & Zhang 2000, IEEE Trans. Med. Imaging 19, 143-150): deciles
of a volume's foreground go to fixed values, grey values between them by straight lines. In the
paper the fixed values are means over a training set. That would be a statistic of patients, learnt
from some and applied to all, on both sides of the split, and nobody would have paid for it. Here
they are those of public phantoms without any site's shift, and all else that a patient's scan goes
by is that scan: no patient, side or hospital has a part in another's, and epsilon is as before.

CT stays as it is: Hounsfield units are a standard scale already.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from securefed.data.phantom import generate
from securefed.data.phantom_settings import SHOWS, PhantomSpec, SiteProfile
from securefed.data.samples import Images, Patient

QUANTILES = (0.01, *(tenth / 10 for tenth in range(1, 10)), 0.99)
CALIBRATED = "ct"  # the modality whose grey values mean something by themselves
OTHERS_AS = "mri"  # the scale of a modality that no phantom shows
_PATIENTS = 24  # phantoms behind the standard scale

Levels = NDArray[np.float64]


def harmonised(patients: Sequence[Patient]) -> list[Patient]:
    """The same patients, every modality but CT on the standard scale; each patient by itself."""
    return [_harmonised(patient) for patient in patients]


def _harmonised(patient: Patient) -> Patient:
    images = patient.images.copy()
    for row, (name, volume, present) in enumerate(patient):
        if name != CALIBRATED and present.any():
            images[row] = _table(landmarks(volume[present]), standard(name))[volume]
            images[row][~present] = 0
    return replace(patient, images=images)


def landmarks(volume: Images) -> Levels:
    """(quantiles,) grey values of the foreground: what is brighter than the mean of the volume."""
    foreground = volume[volume > volume.mean()]
    return np.asarray(np.quantile(foreground if foreground.size else volume, QUANTILES))


@cache
def standard(modality: str) -> Levels:
    """(quantiles,) of a modality: means over public phantoms, in 0..255."""
    name = modality if modality in SHOWS else OTHERS_AS
    # Phantoms show two findings or more; what the partner is leaves the images alone.
    partner = next(other for other in SHOWS if SHOWS[other] != SHOWS[name])
    spec = PhantomSpec((name, partner), missing_query=0.0, missing_context=0.0, site_shift=0.0)
    made = generate(spec, SiteProfile.draw(spec, 0, 0), _PATIENTS, 0)
    return np.asarray(np.mean([landmarks(p.patient.images_of(name)) for p in made], axis=0))


def _table(found: Levels, wanted: Levels) -> NDArray[np.uint8]:
    """(256,) where each grey value goes: black to black, white to white, never out of order."""
    at, first = np.unique([0.0, *found, 255.0], return_index=True)
    to = np.array([0.0, *wanted, 255.0])[first]
    to[-1] = 255.0  # also where a saturated scan has its landmarks at white
    return np.asarray(np.rint(np.interp(np.arange(256), at, to)), np.uint8)
