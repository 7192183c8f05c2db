"""What the phantoms of a run look like, from other phantoms that anybody can make.

They go by the run's public settings, and are of hospitals and numbers that no run has: nothing of
the run's own patients is in it, and nobody needs to pay.
"""

from dataclasses import replace
from functools import lru_cache

from securefed.config import Settings
from securefed.data.harmonisation import harmonised
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.data.samples import Patient
from securefed.model.likeness import Reference
from securefed.simulation.patients import phantom_spec
from securefed.training.patients import stack

PATIENTS = 400  # a hospital each
SEED = 7_305_582_169  # whose phantoms are nobody's: runs are given small ones
LARGEST = 128  # pixels: making larger ones takes longer than many runs


def public_reference(settings: Settings) -> Reference | None:
    """Of the phantoms of these settings; None where patients are others, or too large to make."""
    if settings.data.manifest is not None or settings.model.image_size > LARGEST:
        return None
    spec = replace(phantom_spec(settings), missing_query=0.0, missing_context=0.0, scanners=())
    slices = settings.training.max_slices
    return _reference(spec, slices, settings.model.harmonise, settings.task.example == "slice")


@lru_cache(maxsize=8)
def _reference(spec: PhantomSpec, max_slices: int, harmonise: bool, by_slice: bool) -> Reference:
    sites = (SiteProfile.draw(spec, number, SEED) for number in range(PATIENTS))
    patients = [generate(spec, site, 1, SEED)[0].patient for site in sites]
    seen = harmonised(patients) if harmonise else patients
    parts = [_one_slice(each, number) for number, each in enumerate(seen)] if by_slice else seen
    return Reference.made(stack(parts, max_slices))


def _one_slice(patient: Patient, number: int) -> Patient:
    """A slice of every height, over some patients."""
    at = [number % patient.slices]
    return replace(patient, images=patient.images[:, at], present=patient.present[:, at])
