"""Harmless spots: as many as stated, in every modality, and nothing else of a phantom moves."""

import dataclasses

import numpy as np
import pytest

from securefed.data.phantom import PhantomPatient, PhantomSpec, SiteProfile, generate
from securefed.data.phantom_anatomy import make_frame
from securefed.data.phantom_distractors import KINDS, MOST, distractors
from securefed.data.phantom_settings import SHOWS
from securefed.errors import ConfigurationError

SPEC = PhantomSpec(missing_query=0.0, missing_context=0.0, site_shift=0.0)
FRAME = make_frame(
    64,
    np.linspace(-0.6, 0.6, 41, dtype=np.float32),
    0.0,
    np.zeros((2, 4, 4), np.float32),
)


def made(spec: PhantomSpec, count: int = 20) -> list[PhantomPatient]:
    return generate(spec, SiteProfile.draw(spec, 0, 5), count, 5)


def volume(mean: float, seed: int) -> float:
    layers = distractors(FRAME, mean, np.random.default_rng(seed))
    assert [tissue for tissue, _ in layers] == list(KINDS)
    assert all(share.min() >= 0 and share.max() <= 1 for _, share in layers)
    return float(sum(share.sum() for _, share in layers))


def test_there_are_as_many_as_stated() -> None:
    """Volumes add up, but for overlaps: half as many have half of that of all."""
    half, whole = (np.mean([volume(mean, k) for k in range(60)]) for mean in (MOST / 2, MOST))
    assert 0.42 < half / whole < 0.6
    assert volume(0.0, 1) == 0.0


def test_a_larger_mean_adds_to_those_that_are_there() -> None:
    few, many = (distractors(FRAME, mean, np.random.default_rng(3)) for mean in (3.0, 12.0))
    for (_, less), (_, more) in zip(few, many, strict=True):
        assert np.all(less <= more)


@pytest.mark.parametrize("modality", list(SHOWS))
def test_every_modality_shows_them(modality: str) -> None:
    other = "mri" if SHOWS[modality] != "water" else "ct"
    spec = dataclasses.replace(SPEC, modalities=(modality, other))
    for one, other_one in zip(
        made(spec, 5), made(dataclasses.replace(spec, distractors=16.0), 5), strict=True
    ):
        before, after = (each.patient.images_of(modality) for each in (one, other_one))
        assert np.mean(np.abs(after.astype(int) - before) > 8) > 0.005


def test_nothing_else_moves() -> None:
    """CT has no scale of its own volume, so that all that differs is where they are."""
    for one, other in zip(
        made(SPEC), made(dataclasses.replace(SPEC, distractors=4.0)), strict=True
    ):
        assert (one.kind, one.labels, one.centres) == (other.kind, other.labels, other.centres)
        assert np.array_equal(one.evidence, other.evidence)
        changed = one.patient.images_of("ct") != other.patient.images_of("ct")
        assert np.mean(changed) < 0.03
    assert made(SPEC)[0].patient.images_of("ct").any()


def test_more_than_there_can_be_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="distractors must be between 0 and 16, got 17"):
        dataclasses.replace(SPEC, distractors=17.0)
