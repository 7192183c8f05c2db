"""Scored targets: one score per record, whether it was trained on, and whose record it is.

Every membership statistic starts here. The unit is the patient: a patient is a member or not,
never both, whatever the number of records, because slices of one body are not independent
evidence. A higher score always means "more likely a member".
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from attacks.errors import InvalidScores

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def finite_vector(values: npt.ArrayLike, name: str) -> Floats:
    """`values` as a one-dimensional float64 array.

    Raises:
        InvalidScores: not one-dimensional, empty, not numbers, or not finite.
    """
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidScores(f"{name} must be numbers") from None
    if vector.ndim != 1 or vector.size == 0:
        raise InvalidScores(f"{name} must be a non-empty vector, got shape {vector.shape}")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise InvalidScores(
            f"{name} holds {bad.size} values that are not finite, the first at {bad[0]}",
            hint="an attack that diverged has no score; find out why before auditing",
        )
    return vector


def membership_vector(values: npt.ArrayLike, size: int, name: str) -> Bools:
    """`values` as a boolean array of `size` entries; only true booleans are accepted.

    Raises:
        InvalidScores: another type (0/1 integers included: -1/1 would pass as all true) or size.
    """
    labels = np.asarray(values)
    if labels.dtype != np.bool_ or labels.shape != (size,):
        raise InvalidScores(
            f"{name} must be {size} booleans, got {labels.dtype} of shape {labels.shape}"
        )
    return labels


@dataclass(frozen=True, eq=False)
class ScoredTargets:
    """Scores of records with their membership and patient, validated.

    Nothing of it is shown by repr: who was in a training set is what the audit protects.

    Attributes:
        scores: finite, higher means more likely a member.  # (records,)
        is_member: whether the record was trained on.  # (records,)
        patients: each record's patient as an index into the distinct patients.  # (records,)
        patient_is_member: membership of each distinct patient.  # (patients,)

    Raises:
        InvalidScores: sizes differ, a score is not finite, one class is empty, or a patient is
            both member and non-member.
    """

    scores: Floats = field(repr=False)
    is_member: Bools = field(repr=False)
    patients: npt.NDArray[np.intp] = field(repr=False)
    patient_is_member: Bools = field(repr=False)

    @classmethod
    def of(
        cls, scores: npt.ArrayLike, is_member: npt.ArrayLike, patients: Sequence[Any] | None = None
    ) -> "ScoredTargets":
        """Validate and index; without `patients` every record is a patient of its own."""
        values = finite_vector(scores, "scores")
        members = membership_vector(is_member, values.size, "is_member")
        if members.all() or not members.any():
            raise InvalidScores(
                f"{int(members.sum())} of {members.size} records are members",
                hint="both members and non-members are needed",
            )
        if patients is None:
            return cls(values, members, np.arange(values.size), members)
        if len(patients) != values.size:
            raise InvalidScores(f"{len(patients)} patients for {values.size} scores")
        _, first, index = np.unique(np.asarray(patients), return_index=True, return_inverse=True)
        index = index.reshape(-1)
        patient_is_member = members[first]
        if (patient_is_member[index] != members).any():
            both = np.unique(index[patient_is_member[index] != members]).size
            raise InvalidScores(
                f"{both} patients are both member and non-member",
                hint="split by patient before training the target",
            )
        return cls(values, members, index, patient_is_member)

    @property
    def member_patients(self) -> int:
        return int(self.patient_is_member.sum())

    @property
    def non_member_patients(self) -> int:
        return int((~self.patient_is_member).sum())

    def permuted(self, rng: np.random.Generator) -> "ScoredTargets":
        """The null control: the same scores, membership dealt anew among the patients."""
        dealt = rng.permutation(self.patient_is_member)
        return ScoredTargets(self.scores, dealt[self.patients], self.patients, dealt)
