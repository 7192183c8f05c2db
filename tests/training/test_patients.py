"""Patients as tensors: no slice, mask or label is lost, and none is invented."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.data.samples import Patient
from securefed.model.patients import PatientTensors
from securefed.training.patients import (
    one_slice_records,
    parts_alike,
    stack,
    without_ct,
    without_mri,
)

Presence = list[tuple[bool, bool]]  # (CT there, MRI there) of each slice
BOTH, CT_ONLY, MRI_ONLY = (True, True), (True, False), (False, True)


def _patient(presence: Presence, label: int = 0, mark: int = 1, size: int = 4) -> Patient:
    """A patient whose slice i is filled with mark + i in CT and 100 + mark + i in MRI."""
    has_ct, has_mri = (np.array(column, np.bool_) for column in zip(*presence, strict=True))
    fill = (mark + np.arange(len(presence), dtype=np.uint8))[:, None, None]
    block = np.broadcast_to(fill, (len(presence), size, size))
    return Patient(
        patient_id=f"p{mark}",
        site="clinic",
        label=label,
        ct=np.where(has_ct[:, None, None], block, 0).astype(np.uint8),
        mri=np.where(has_mri[:, None, None], block + 100, 0).astype(np.uint8),
        has_ct=has_ct,
        has_mri=has_mri,
    )


_presences = st.lists(st.sampled_from([BOTH, CT_ONLY, MRI_ONLY]), min_size=1, max_size=9)


@given(groups=st.lists(st.tuples(_presences, st.integers(0, 1)), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_every_slice_mask_and_label_is_kept_and_the_rest_is_padding(
    groups: list[tuple[Presence, int]],
):
    patients = [_patient(p, label, mark=10 * i) for i, (p, label) in enumerate(groups, start=1)]
    stacked = stack(patients, max_slices=9)
    longest = max(patient.slices for patient in patients)
    assert len(stacked) == len(patients)
    assert stacked.ct.shape == stacked.mri.shape == (len(patients), longest, 4, 4)
    assert stacked.ct.dtype == stacked.mri.dtype == torch.uint8
    assert stacked.label.tolist() == [float(patient.label) for patient in patients]
    for row, patient in enumerate(patients):
        for name in ("ct", "mri", "has_ct", "has_mri"):
            tensor = getattr(stacked, name)[row]
            assert np.array_equal(tensor[: patient.slices].numpy(), getattr(patient, name)), name
            assert not tensor[patient.slices :].any(), name


@given(slices=st.integers(1, 40), most=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_subsampling_keeps_exactly_that_many_slices_in_order_and_evenly_spaced(
    slices: int, most: int
):
    stacked = stack([_patient([BOTH] * slices)], max_slices=most)
    kept = (stacked.ct[0, :, 0, 0].to(torch.int64) - 1).tolist()
    assert len(kept) == min(slices, most)
    assert kept == sorted(set(kept))
    assert torch.equal(stacked.mri[0, :, 0, 0], stacked.ct[0, :, 0, 0] + 100)
    gaps = np.diff(kept)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
    # As much is left out below the first as above the last.
    assert abs(kept[0] - (slices - 1 - kept[-1])) <= 1


def test_a_single_slice_is_the_middle_one():
    stacked = stack([_patient([BOTH] * 7)], max_slices=1)
    assert stacked.ct[0, :, 0, 0].tolist() == [1 + 3]


def test_masks_are_subsampled_with_their_slices():
    presence = [BOTH, CT_ONLY, MRI_ONLY, CT_ONLY, BOTH, MRI_ONLY]
    stacked = stack([_patient(presence)], max_slices=3)
    for position in range(3):
        ct, mri = stacked.ct[0, position], stacked.mri[0, position]
        assert bool(ct.any()) == bool(stacked.has_ct[0, position])
        assert bool(mri.any()) == bool(stacked.has_mri[0, position])


def test_nobody_and_unequal_sizes_are_refused():
    with pytest.raises(ValueError, match="zero patients"):
        stack([], max_slices=3)
    with pytest.raises(ValueError, match="broadcast"):
        stack([_patient([BOTH]), _patient([BOTH], size=6)], max_slices=3)


def test_every_real_slice_is_a_record_with_its_patients_label():
    group = stack([_patient([BOTH, CT_ONLY], 1, 10), _patient([MRI_ONLY], 0, 20)], max_slices=3)
    records = one_slice_records(group)
    assert len(records) == 3
    assert records.ct.shape == (3, 1, 4, 4)
    assert records.label.tolist() == [1.0, 1.0, 0.0]
    assert records.ct[:, 0, 0, 0].tolist() == [10, 11, 0]
    assert records.mri[:, 0, 0, 0].tolist() == [110, 0, 120]
    assert records.has_ct[:, 0].tolist() == [True, True, False]
    assert records.has_mri[:, 0].tolist() == [True, False, True]


def test_without_a_modality_its_masks_are_false_and_who_had_nothing_else_is_left_out():
    group = stack(
        [
            _patient([BOTH, CT_ONLY], 1, 10),
            _patient([MRI_ONLY], 0, 20),
            _patient([CT_ONLY], 1, 30),
        ],
        max_slices=3,
    )
    mri_alone, ct_alone = without_ct(group), without_mri(group)
    assert mri_alone.label.tolist() == [1.0, 0.0]
    assert not mri_alone.has_ct.any()
    assert mri_alone.has_mri.tolist() == [[True, False], [True, False]]
    assert ct_alone.label.tolist() == [1.0, 1.0]
    assert not ct_alone.has_mri.any()
    assert ct_alone.has_ct.tolist() == [[True, True], [True, False]]
    assert len(without_mri(group[1:2])) == 0


def test_rows_are_taken_from_every_tensor_alike():
    group = stack([_patient([BOTH], label, mark) for label, mark in ((0, 10), (1, 20), (1, 30))], 1)
    for rows in (torch.tensor([2, 0]), torch.tensor([], dtype=torch.int64), slice(1, 3)):
        part = group[rows]
        order = torch.arange(3)[rows]
        assert len(part) == len(order)
        for name in ("ct", "mri", "has_ct", "has_mri", "label"):
            assert torch.equal(getattr(part, name), getattr(group, name)[order]), name


def test_repr_shows_no_patient():
    group = stack([_patient([BOTH] * 2, 1, 77)], 2)
    assert repr(group) == "PatientTensors(1 patients, 2 slices)"
    assert isinstance(group.to(torch.device("cpu")), PatientTensors)


@given(
    counts=st.lists(st.integers(0, 5), min_size=0, max_size=12),
    most=st.integers(1, 20),
)
@settings(max_examples=50, deadline=None)
def test_parts_have_every_patient_once_whole_and_little_padding(counts: list[int], most: int):
    real = torch.arange(6) < torch.tensor(counts, dtype=torch.long)[:, None]  # (patients, slices)
    images = torch.arange(len(counts)).view(-1, 1, 1, 1).expand(-1, 6, 2, 2)
    group = PatientTensors(images, images, real, real & False, torch.arange(len(counts)).float())
    seen = []
    for part in parts_alike(group, most):
        slices = part.ct.shape[1]
        assert len(part) == 1 or len(part) * slices <= most
        for row, label in enumerate(part.label.long().tolist()):
            assert int(part.has_ct[row].sum()) == counts[label]
            assert bool((part.ct[row] == label).all())
            seen.append(label)
        assert slices == max(1, *(counts[label] for label in part.label.long().tolist()), 1)
    assert sorted(seen) == list(range(len(counts)))
