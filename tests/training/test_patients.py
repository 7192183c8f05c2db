"""Patients as tensors: no slice, mask or label is lost, and none is invented."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.data.samples import Patient
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import SeededSource
from securefed.training.patients import drop_modalities, one_slice_records, parts_alike, stack

Presence = list[tuple[bool, bool]]  # (CT there, MRI there) of each slice
BOTH, CT_ONLY, MRI_ONLY = (True, True), (True, False), (False, True)


def _patient(presence: Presence, label: int = 0, mark: int = 1, size: int = 4) -> Patient:
    """A patient whose slice i is filled with mark + i in CT and 100 + mark + i in MRI."""
    present = np.array(presence, np.bool_).T  # (2, slices)
    fill = (mark + np.arange(len(presence), dtype=np.uint8))[:, None, None]
    block = np.broadcast_to(fill, (len(presence), size, size))
    return Patient(
        patient_id=f"p{mark}",
        site="clinic",
        label=label,
        modalities=("ct", "mri"),
        images=np.where(present[..., None, None], [block, block + 100], 0).astype(np.uint8),
        present=present,
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
    assert stacked.modalities == ("ct", "mri")
    assert stacked.images.shape == (len(patients), 2, longest, 4, 4)
    assert stacked.images.dtype == torch.uint8
    assert stacked.label.tolist() == [float(patient.label) for patient in patients]
    for row, patient in enumerate(patients):
        for name in ("images", "present"):
            tensor = getattr(stacked, name)[row]
            assert np.array_equal(tensor[:, : patient.slices].numpy(), getattr(patient, name)), name
            assert not tensor[:, patient.slices :].any(), name


@given(slices=st.integers(1, 40), most=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_subsampling_keeps_exactly_that_many_slices_in_order_and_evenly_spaced(
    slices: int, most: int
):
    stacked = stack([_patient([BOTH] * slices)], max_slices=most)
    ct, mri = stacked.images[0, :, :, 0, 0]
    kept = (ct.to(torch.int64) - 1).tolist()
    assert len(kept) == min(slices, most)
    assert kept == sorted(set(kept))
    assert torch.equal(mri, ct + 100)
    gaps = np.diff(kept)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
    # As much is left out below the first as above the last.
    assert abs(kept[0] - (slices - 1 - kept[-1])) <= 1


def test_a_single_slice_is_the_middle_one():
    stacked = stack([_patient([BOTH] * 7)], max_slices=1)
    assert stacked.images[0, 0, :, 0, 0].tolist() == [1 + 3]


def test_masks_are_subsampled_with_their_slices():
    presence = [BOTH, CT_ONLY, MRI_ONLY, CT_ONLY, BOTH, MRI_ONLY]
    stacked = stack([_patient(presence)], max_slices=3)
    assert torch.equal(stacked.images.flatten(3).any(dim=3), stacked.present)


def test_nobody_and_unequal_sizes_and_modalities_are_refused():
    with pytest.raises(ValueError, match="zero patients"):
        stack([], max_slices=3)
    with pytest.raises(ValueError, match="broadcast"):
        stack([_patient([BOTH]), _patient([BOTH], size=6)], max_slices=3)
    other = replace(_patient([BOTH]), modalities=("pet", "mri"))
    with pytest.raises(ValueError, match="different modalities"):
        stack([_patient([BOTH]), other], max_slices=3)


def test_every_real_slice_is_a_record_with_its_patients_label():
    group = stack([_patient([BOTH, CT_ONLY], 1, 10), _patient([MRI_ONLY], 0, 20)], max_slices=3)
    records = one_slice_records(group)
    assert len(records) == 3
    assert records.images.shape == (3, 2, 1, 4, 4)
    assert records.label.tolist() == [1.0, 1.0, 0.0]
    assert records.images[:, :, 0, 0, 0].T.tolist() == [[10, 11, 0], [110, 0, 120]]
    assert records.present[:, :, 0].T.tolist() == [[True, True, False], [True, False, True]]


def test_with_one_modality_the_others_masks_are_false_and_who_lacks_it_is_left_out():
    group = stack(
        [
            _patient([BOTH, CT_ONLY], 1, 10),
            _patient([MRI_ONLY], 0, 20),
            _patient([CT_ONLY], 1, 30),
        ],
        max_slices=3,
    )
    mri_alone, ct_alone = group.only("mri"), group.only("ct")
    assert mri_alone.label.tolist() == [1.0, 0.0]
    assert not mri_alone.present[:, 0].any()
    assert mri_alone.present[:, 1].tolist() == [[True, False], [True, False]]
    assert ct_alone.label.tolist() == [1.0, 1.0]
    assert not ct_alone.present[:, 1].any()
    assert ct_alone.present[:, 0].tolist() == [[True, True], [True, False]]
    assert len(group[1:2].only("ct")) == 0
    assert group.present[0, 0].any(), "the group itself is as it was"


def test_rows_are_taken_from_every_tensor_alike():
    group = stack([_patient([BOTH], label, mark) for label, mark in ((0, 10), (1, 20), (1, 30))], 1)
    for rows in (torch.tensor([2, 0]), torch.tensor([], dtype=torch.int64), slice(1, 3)):
        part = group[rows]
        order = torch.arange(3)[rows]
        assert len(part) == len(order)
        for name in ("images", "present", "label"):
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
    label = torch.arange(len(counts))
    images = label.view(-1, 1, 1, 1, 1).expand(-1, 2, 6, 2, 2)
    present = torch.stack([real, real & False], dim=1)
    group = PatientTensors(("ct", "mri"), images, present, label.float())
    seen = []
    for part in parts_alike(group, most):
        slices = part.slices
        assert len(part) == 1 or len(part) * slices <= most
        for row, label in enumerate(part.label.long().tolist()):
            assert int(part.present[row, 0].sum()) == counts[label]
            assert bool((part.images[row] == label).all())
            seen.append(label)
        assert slices == max(1, *(counts[label] for label in part.label.long().tolist()), 1)
    assert sorted(seen) == list(range(len(counts)))


@given(
    groups=st.lists(_presences, min_size=1, max_size=6),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_a_patient_that_loses_modalities_keeps_one_that_it_has_in_all_its_slices(
    groups: list[Presence], share: float, seed: int
) -> None:
    group = stack([_patient(presence, mark=i) for i, presence in enumerate(groups)], 9)
    fewer = drop_modalities(group, share, SeededSource(seed))
    assert torch.equal(fewer.images, group.images)
    assert torch.equal(fewer.label, group.label)
    for before, after in zip(group.present, fewer.present, strict=True):
        had, has = before.any(-1), after.any(-1)
        if torch.equal(after, before):
            assert share < 1 or had.sum() == 1
        else:
            assert share > 0
            assert has.sum() == 1
            assert had.sum() == 2
            assert torch.equal(after[has], before[has])


def test_each_modality_is_lost_as_often_and_never_both() -> None:
    """Binomial at z = 4, with one seed."""
    group = stack([_patient([BOTH]) for _ in range(1000)], 9)
    lost = ~drop_modalities(group, 0.4, SeededSource(3)).present[:, :, 0]
    for count in lost.sum(dim=0).tolist():
        assert abs(count - 200) < 4 * (1000 * 0.2 * 0.8) ** 0.5
    assert not lost.all(dim=1).any()
