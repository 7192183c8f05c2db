"""A person under two identifiers is found by pictures, by spelling, and by what the header said."""

import numpy as np
import pytest

from securefed.data import duplicates
from securefed.data.identities import find_doubles
from securefed.data.samples import Patient
from tests.scans import patient_of, with_images


def patient(name: str, number: int, slices: int = 2) -> Patient:
    """Pictures that no other number gives."""
    coarse = np.random.default_rng(number).integers(20, 235, (2, slices, 4, 4))
    ct, mri = np.kron(coarse, np.ones((1, 1, 4, 4))).astype(np.uint8)
    return patient_of(name, "a", number % 2, ct=ct, mri=mri)


def test_different_people_are_left_alone() -> None:
    doubles = find_doubles([patient(f"p{k}", k) for k in range(20)])
    assert doubles.pairs == []
    assert doubles.similar == []


def test_the_same_pictures_are_one_pair_however_many_slices_agree() -> None:
    people = [patient("first", 1), patient("x", 2), patient("other name", 1)]
    (pair,) = find_doubles(people).pairs
    assert (pair.first, pair.second) == ("first", "other name")
    assert "(2 CT and 2 MRI, the first: CT slice 0 and CT slice 0)" in pair.reason
    assert "other name" not in repr(pair)


def test_one_copied_slice_of_one_modality_is_enough() -> None:
    victim, thief = patient("first", 1), patient("thief", 2)
    mri = thief.images_of("mri").copy()
    mri[1] = victim.images_of("mri")[0]
    (pair,) = find_doubles([victim, with_images(thief, mri=mri)]).pairs
    assert "(1 MRI, the first: MRI slice 0 and MRI slice 1)" in pair.reason


def test_anothers_ct_as_ones_own_mri_is_found() -> None:
    victim, thief = patient("first", 1), patient("thief", 2)
    thief = with_images(thief, mri=victim.images_of("ct"))
    doubles = find_doubles([victim, thief])
    (pair,) = doubles.pairs
    assert "(2 MRI, the first: CT slice 0 and MRI slice 0)" in pair.reason
    assert doubles.twice == []


def test_one_image_as_ct_and_mri_of_a_patient_is_named_and_is_no_second_person() -> None:
    one = patient("p", 1)
    doubles = find_doubles([with_images(one, mri=one.images_of("ct")), patient("q", 2)])
    assert doubles.pairs == []
    assert doubles.twice[0] == "patient 'p' has one image as CT slice 0 and as MRI slice 0"
    assert len(doubles.twice) == 2


def test_three_copies_give_two_pairs() -> None:
    copies = [patient(name, 1) for name in ("a", "b", "c")]
    assert [(p.first, p.second) for p in find_doubles(copies).pairs] == [("a", "b"), ("a", "c")]


def test_alike_identifiers_are_named_and_what_cannot_be_seen_is_written_out() -> None:
    names = ["Pat01", "PAT01", "P-02", "P-02\u200b", "P 03", "P  03", "P-04"]
    pairs = find_doubles([patient(name, k) for k, name in enumerate(names)]).pairs
    assert len(pairs) == 3
    assert str(pairs[1]).startswith(r"patients 'P-02' and 'P-02\u200b' are alike")


def test_one_name_in_two_headers_is_one_person() -> None:
    people = [patient(f"p{k}", k) for k in range(4)]
    persons = {"p0": "k1", "p1": "", "p2": "k1", "p3": ""}
    (pair,) = find_doubles(people, persons).pairs
    assert (pair.first, pair.second) == ("p0", "p2")
    assert "one name" in pair.reason


def test_a_pair_is_named_once_whatever_gives_it_away() -> None:
    people = [patient("first", 1), patient("FIRST", 1)]
    pairs = find_doubles(people, {"first": "k", "FIRST": "k"}).pairs
    assert len(pairs) == 1


def test_where_near_images_are_too_many_to_compare_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duplicates, "NEAR_SLICES", 5)
    people = [patient("first", 1), patient("second", 2), patient("copy", 1)]
    doubles = find_doubles(people)
    assert len(doubles.pairs) == 1
    assert doubles.similar[0].startswith("not looked for")
    assert find_doubles(people[:2]).similar == []
