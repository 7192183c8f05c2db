"""Patients and sites whose images are much brighter or darker than all others: to look at.

The grey of a patient is the mean of its pixels that are not black, of one modality, on a scale of
factors (its logarithm). A patient is named whose grey lies more than LIMIT robust standard
deviations (1.4826 times the median absolute deviation; Leys et al. 2013, J. Exp. Soc. Psychol.
49:764) from the median of its site; a site, whose median lies so far from that of all patients
elsewhere. A wrong window, an inverted scale or another organ shows so where the others are alike;
what is odd in other ways does not.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from securefed.data.samples import Patient
from securefed.wording import counted, first_of

LIMIT = 4.5
FEWEST = 10  # patients, for a spread that says anything
SMALLEST_SPREAD = 0.03  # of a logarithm: a factor that nobody sees

Greys = dict[str, float]  # patient -> logarithm of the mean grey


def outliers(patients: Sequence[Patient]) -> list[str]:
    """A line for each modality and site with such patients, and for each such site."""
    names = patients[0].modalities if patients else ()
    return [line for name in names for line in _of_modality(patients, name)]


def _of_modality(patients: Sequence[Patient], name: str) -> Iterator[str]:
    by_site: dict[str, Greys] = {}
    for patient in patients:
        images = patient.images_of(name)[patient.present_of(name)]
        if images.any():
            grey = math.log(images[images > 0].mean())
            by_site.setdefault(patient.site, {})[patient.patient_id] = grey
    for site, greys in sorted(by_site.items()):
        yield from _patients(name, site, greys)
        yield from _site(name, site, greys, by_site)


def _patients(name: str, site: str, greys: Greys) -> Iterator[str]:
    values = np.array(list(greys.values()))
    if len(values) < FEWEST:
        return
    middle, spread = _spread(values)
    odd = [who for who, grey in greys.items() if abs(grey - middle) > LIMIT * spread]
    if odd:
        yield (
            f"{name.upper()} of {counted(len(odd), 'patient')} of {site} is much brighter or "
            f"darker than that of the others there: {first_of(odd, ', ')}"
        )


def _site(name: str, site: str, greys: Greys, by_site: dict[str, Greys]) -> Iterator[str]:
    elsewhere = np.array(
        [grey for other, each in by_site.items() if other != site for grey in each.values()]
    )
    if len(greys) < FEWEST or len(elsewhere) < FEWEST:
        return
    here = float(np.median(list(greys.values())))
    middle, spread = _spread(elsewhere)
    if abs(here - middle) > LIMIT * spread:
        yield (
            f"{name.upper()} of {site} has a median grey of {math.exp(here):.0f}, elsewhere it is "
            f"{math.exp(middle):.0f}: was it windowed or scaled in another way?"
        )


def _spread(values: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and robust standard deviation."""
    middle = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - middle)))
    return middle, max(deviation, SMALLEST_SPREAD)
