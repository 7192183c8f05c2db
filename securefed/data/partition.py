"""Who holds which patient, and which patients are held out: always whole patients.

Three ways to give patients to hospitals: by the site in the data, evenly at random (IID), or with
label skew drawn from a Dirichlet distribution (Hsu, Qi and Brown 2019, arXiv:1909.06335: small
alpha, strong skew). Every function works on patients, never on slices, and checks that ids are
unique, so that no division can put one person on two sides. Two ids for one person defeat that;
securefed/data/duplicates.py looks for the images that would give it away.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from securefed.data.samples import Patient
from securefed.errors import ConfigurationError, DataError

WAYS = ("site", "iid", "dirichlet")


@dataclass(frozen=True)
class Split:
    """Train and test patients of one hospital; disjoint."""

    train: list[Patient] = field(repr=False)
    test: list[Patient] = field(repr=False)


def divide(
    patients: Sequence[Patient], *, by: str, hospitals: int, alpha: float, seed: int
) -> dict[str, list[Patient]]:
    """Give patients to hospitals in one of WAYS; names in order, every patient exactly once.

    Raises:
        ConfigurationError: `by` is not one of WAYS, or a value is out of range.
        DataError: an id occurs twice, or there are fewer patients than hospitals.
    """
    if by == "site":
        return by_site(patients)
    if by == "iid":
        groups = iid(patients, hospitals, seed=seed)
    elif by == "dirichlet":
        groups = dirichlet(patients, hospitals, alpha=alpha, seed=seed)
    else:
        raise ConfigurationError(
            f"unknown partition {by!r}", hint=f"choose one of {', '.join(WAYS)}"
        )
    return {f"hospital-{index + 1}": group for index, group in enumerate(groups)}


def by_site(patients: Sequence[Patient]) -> dict[str, list[Patient]]:
    """One hospital per site, in alphabetical order."""
    require_disjoint([patients])
    groups: dict[str, list[Patient]] = {site: [] for site in sorted({p.site for p in patients})}
    for patient in patients:
        groups[patient.site].append(patient)
    return groups


def iid(patients: Sequence[Patient], hospitals: int, *, seed: int) -> list[list[Patient]]:
    """Deal patients out like cards, each label on its own: sizes and label counts nearly equal."""
    _check_counts(patients, hospitals)
    return deal(patients, hospitals, seed=seed)


def deal(patients: Sequence[Patient], hospitals: int, *, seed: int) -> list[list[Patient]]:
    """As `iid`, but with fewer patients than hospitals some get none."""
    rng = np.random.default_rng(seed)
    dealt = [patient for label in (0, 1) for patient in _shuffled(patients, label, rng)]
    return [dealt[start::hospitals] for start in range(hospitals)]


def dirichlet(
    patients: Sequence[Patient], hospitals: int, *, alpha: float, seed: int
) -> list[list[Patient]]:
    """Divide each label in proportions drawn from Dirichlet(alpha, ..., alpha).

    Every hospital gets at least one patient: one left empty takes one from the largest.

    Raises:
        ConfigurationError: alpha is not in 0.001 to 1e6.
    """
    _check_counts(patients, hospitals)
    if not 1e-3 <= alpha <= 1e6:
        raise ConfigurationError(
            f"Dirichlet alpha must be between 0.001 and 1e6, got {alpha:g}",
            hint="0.1 is strong label skew, 100 nearly none",
        )
    rng = np.random.default_rng(seed)
    groups: list[list[Patient]] = [[] for _ in range(hospitals)]
    for label in (0, 1):
        members = _shuffled(patients, label, rng)
        shares = rng.dirichlet(np.full(hospitals, alpha))
        cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int).tolist()
        for group, start, stop in zip(groups, [0, *cuts], [*cuts, len(members)], strict=True):
            group.extend(members[start:stop])
    for group in groups:
        if not group:
            group.append(max(groups, key=len).pop())
    return groups


def split(patients: Sequence[Patient], test_share: float, *, seed: int) -> Split:
    """Hold out a share of the patients of each label, rounded to whole patients.

    A label with two or more patients keeps at least one to train on, and holds at least one out
    if `test_share` is above 0.

    Raises:
        ConfigurationError: test_share is outside 0..1, or is 1.
        DataError: an id occurs twice.
    """
    if not 0 <= test_share < 1:
        raise ConfigurationError(
            f"test_share must be at least 0 and below 1, got {test_share:g}", hint="0.25 is common"
        )
    require_disjoint([patients])
    rng = np.random.default_rng(seed)
    train: list[Patient] = []
    test: list[Patient] = []
    for label in (0, 1):
        members = _shuffled(patients, label, rng)
        held_out = round(test_share * len(members))
        if test_share > 0 and len(members) > 1:
            held_out = min(max(held_out, 1), len(members) - 1)
        test += members[:held_out]
        train += members[held_out:]
    return Split(train, test)


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


def _check_counts(patients: Sequence[Patient], hospitals: int) -> None:
    if hospitals < 1:
        raise ConfigurationError(
            f"hospitals must be at least 1, got {hospitals}", hint="set the number of hospitals"
        )
    require_disjoint([patients])
    if len(patients) < hospitals:
        raise DataError(
            f"{len(patients)} patients cannot be divided among {hospitals}",
            hint="use fewer hospitals",
        )


def _shuffled(patients: Sequence[Patient], label: int, rng: np.random.Generator) -> list[Patient]:
    # Sorted first, so that the order of the file cannot change the division.
    members = sorted((p for p in patients if p.label == label), key=lambda p: p.patient_id)
    return [members[index] for index in rng.permutation(len(members))]
