"""Who holds which patient, and which patients are held out: always whole patients.

Where a patient goes follows from a keyed hash of its own identifier, its own label and public
settings, and from no other patient. Two data sets that differ in one patient therefore differ in
one patient after the division too, which is what differential privacy speaks about; dealing
patients out like cards would move others when one comes or goes. The price: sizes and label counts
are not balanced but binomial (docs/data.md has them). The key is the site's own, so that nobody can
compute from a guessed identifier whether that patient trained.

Three ways to give patients to hospitals: by the site in the data, at random (IID), or with label
skew, in shares drawn from a Dirichlet distribution (Hsu, Qi and Brown 2019, arXiv:1909.06335: small
alpha, strong skew). Two ids for one person defeat all of them; securefed/data/identities.py looks
for what would give it away.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from securefed.data.pseudonyms import SiteKey
from securefed.data.samples import Patient
from securefed.errors import ConfigurationError, DataError

WAYS = ("site", "iid", "dirichlet")

Place = Callable[[Patient], str]  # the name of a patient's hospital


@dataclass(frozen=True)
class Split:
    """Train and test patients of one hospital; disjoint."""

    train: list[Patient] = field(repr=False)
    test: list[Patient] = field(repr=False)


def divide(
    patients: Sequence[Patient],
    key: SiteKey,
    *,
    by: str,
    hospitals: int,
    alpha: float,
    test_share: float,
    seed: int,
    labels: int = 2,
) -> dict[str, Split]:
    """Give patients to hospitals in one of WAYS and hold some out; every patient exactly once.

    Guarantee: with a patient more or less, nobody else changes hospital or side.
    Not guaranteed: that a hospital or a side gets anybody.

    Args:
        alpha: of "dirichlet".
        test_share: chance of a patient to be held out, whatever its label.
        seed: another seed divides otherwise, under the same key.
        labels: how many there may be; public.

    Raises:
        ConfigurationError: `by` is not one of WAYS, or a value is out of range.
        DataError: an id occurs twice.
    """
    if not 0 <= test_share < 1:
        raise ConfigurationError(
            f"test_share must be at least 0 and below 1, got {test_share:g}", hint="0.25 is common"
        )
    require_disjoint([patients])
    if by == "site":
        names, place = _sites(patients)
    else:
        names, place = _simulated(key, by, hospitals, alpha, seed, labels)
    sides = {name: Split([], []) for name in names}
    for patient in patients:
        split = sides[place(patient)]
        held_out = is_held_out(key, patient.patient_id, test_share, seed)
        (split.test if held_out else split.train).append(patient)
    return sides


def is_held_out(key: SiteKey, patient_id: str, test_share: float, seed: int) -> bool:
    """The side of a patient that takes part: the same each time, whoever else does."""
    return key.uniform(f"side {seed}", patient_id) < test_share


def _sites(patients: Sequence[Patient]) -> tuple[list[str], Place]:
    return sorted({patient.site for patient in patients}), lambda patient: patient.site


def _simulated(
    key: SiteKey, by: str, hospitals: int, alpha: float, seed: int, labels: int
) -> tuple[list[str], Place]:
    """Names of simulated hospitals, and whose a patient is."""
    if hospitals < 1:
        raise ConfigurationError(
            f"hospitals must be at least 1, got {hospitals}", hint="set the number of hospitals"
        )
    names = [f"hospital-{index + 1}" for index in range(hospitals)]
    # Shares are drawn before anybody is looked at: they are public, as settings are.
    cuts = np.cumsum(_shares(by, hospitals, alpha, seed, labels), axis=1)[:, :-1].tolist()

    def place(patient: Patient) -> str:
        where = key.uniform(f"hospital {seed}", patient.patient_id)
        return names[bisect_right(cuts[patient.label], where)]

    return names, place


def _shares(by: str, hospitals: int, alpha: float, seed: int, labels: int) -> NDArray[np.float64]:
    """(labels, hospitals) what part of each label's patients a hospital gets, in expectation."""
    if by == "iid":
        return np.full((labels, hospitals), 1 / hospitals)
    if by != "dirichlet":
        raise ConfigurationError(
            f"unknown partition {by!r}", hint=f"choose one of {', '.join(WAYS)}"
        )
    if not 1e-3 <= alpha <= 1e6:
        raise ConfigurationError(
            f"Dirichlet alpha must be between 0.001 and 1e6, got {alpha:g}",
            hint="0.1 is strong label skew, 100 nearly none",
        )
    return np.random.default_rng(seed).dirichlet(np.full(hospitals, alpha), size=labels)


def require_disjoint(groups: Iterable[Sequence[Patient]]) -> None:
    """Raise unless every patient id occurs once, over all groups together.

    Raises:
        DataError: an id occurs twice; the id itself is not shown.
    """
    ids: set[str] = set()
    for index, group in enumerate(groups):
        for patient in group:
            if patient.patient_id in ids:
                raise DataError(
                    f"a patient of site {patient.site} occurs twice (again in group {index + 1})",
                    hint="ids must be unique over all sites, and no patient on two sides",
                )
            ids.add(patient.patient_id)
