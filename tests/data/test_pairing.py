"""Any number of modalities comes onto the slices of the first; what cannot, stays by itself."""

from dataclasses import replace
from datetime import date

import numpy as np

from securefed.data.dicom.volume import Series
from securefed.data.pairing import Pairing, PairingRules, Registration, Slice, pair
from tests.data.heads import Place, scan

RULES = PairingRules("brain", 32, 30)
DAY = date(2024, 1, 1)


def mr(**more: object) -> Series:
    return replace(scan("MR", Place(), frame="1.2"), **{"study_date": DAY, **more})  # type: ignore[arg-type]


def test_two_scans_of_one_frame_come_onto_the_first() -> None:
    t1 = replace(scan("MR", Place(), slices=12, gap=8.0, frame="1.2"), study_date=DAY)
    made = pair({"t1": t1, "t2": mr(), "flair": mr()}, RULES)
    assert len(made.slices) == 12
    assert [set(each) for each in made.slices[2:-2]] == [{"t1", "t2", "flair"}] * 8
    assert set(made.registrations) == {("same-frame", None)}
    shown = made.slices[6]
    assert np.array_equal(shown["t2"], shown["flair"])
    alike = np.corrcoef(shown["t1"].ravel(), shown["t2"].ravel())[0, 1]
    assert alike > 0.95  # the same anatomy, interpolated


def test_what_is_too_far_from_the_first_has_a_reference_of_its_own() -> None:
    late = {"study_date": date(2024, 6, 1)}
    made = pair({"t1": mr(), "t2": mr(**late), "flair": mr(**late)}, RULES)
    told = [(set(images), status) for images, (status, _) in zip_of(made)]
    assert told.count(({"t1"}, "unpaired")) == 30
    assert told.count(({"t2", "flair"}, "same-frame")) == 30
    assert sum("152 days lie between them" in note for note in made.notes) == 2


def test_a_scan_without_geometry_costs_itself_alone() -> None:
    grid = replace(mr().grid, positions=None)
    made = pair({"t1": mr(grid=grid), "t2": mr(), "flair": mr()}, RULES)
    kinds = [set(images) for images, _ in zip_of(made)]
    assert kinds.count({"t1"}) == 30
    assert kinds.count({"t2", "flair"}) == 30
    assert "T1 and T2 kept as separate slices: a series has no geometry" in made.notes


def test_a_modality_that_is_not_there_is_no_matter() -> None:
    made = pair({"flair": mr()}, RULES)
    assert set(made.registrations) == {("", None)}
    assert [set(each) for each in made.slices] == [{"flair"}] * 30
    assert made.notes == []


def test_without_dates_nothing_is_said_of_them() -> None:
    undated = {"t1": mr(study_date=None), "t2": mr(study_date=None)}
    assert any("date is missing" in note for note in pair(undated, RULES).notes)
    assert not any(
        "date" in note for note in pair(undated, replace(RULES, max_gap_days=None)).notes
    )


def test_a_pet_has_no_outline_to_doubt_a_frame_by() -> None:
    """A tracer shows the brain, not the head: one machine's frame is believed."""
    brain = (((0, 0, 0), (40, 55, 50), 0, 400),)
    pet = replace(scan("MR", Place(), frame="1.2", parts=brain), modality="PT", study_date=DAY)
    made = pair(
        {"ct": replace(scan("CT", Place(), frame="1.2"), study_date=DAY), "pet": pet}, RULES
    )
    assert made.registrations[15] == ("same-frame", None)
    assert not any("not believed" in note for note in made.notes)


def zip_of(made: Pairing) -> list[tuple[Slice, Registration]]:
    """Slices with anything to see, and how each was brought together."""
    return [each for each in zip(made.slices, made.registrations, strict=True) if each[0]]
