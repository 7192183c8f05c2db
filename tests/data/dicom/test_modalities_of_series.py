"""Any modality of a DICOM tree: series are told apart, chosen together, and written as columns."""

import itertools
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import NuclearMedicineImageStorage, PositronEmissionTomographyImageStorage

from securefed.cli.data import command
from securefed.data.dicom.choice import choose
from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.ranks import ranks
from securefed.data.dicom.stacks import Stack, stacks_of
from securefed.data.dicom.volume import build_series
from securefed.data.series_rule import SeriesRule
from securefed.data.series_rules import SeriesRules
from securefed.errors import ConfigurationError
from tests.data.dicom.oracle import converted, furthest, needs_dcm2niix
from tests.data.dicom.trees import WriteSeries, edit, edit_all, ramp, rows

FRAME = {"FrameOfReferenceUID": "1.2.3"}
SEQUENCES = {
    "t1": {"SeriesDescription": "AX T1 SE"},
    "t1c": {"SeriesDescription": "AX T1 POST GAD"},
    "t2": {"SeriesDescription": "AX T2 TSE"},
    "flair": {"SeriesDescription": "AX T2 FLAIR"},
    "dwi": {"SeriesDescription": "DWI b1000"},
    "swi": {"SeriesDescription": "SWI"},
    "pd": {"SeriesDescription": "PD TSE"},
}
PET = {"SOPClassUID": PositronEmissionTomographyImageStorage, "SeriesDescription": "PET BRAIN"}


def write_tree(write: WriteSeries, folder: Path, names: Sequence[str], **header: Any) -> None:
    """One series of each sequence, of one patient and one frame."""
    for number, name in enumerate(names):
        more = {"SeriesNumber": number + 1, **FRAME, **SEQUENCES[name], **header}
        write(folder / name, ramp(start=3 * number), "MR", **more)


def imported(root: Path, out: Path, *more: object) -> Result:
    labels = out.with_name("labels.csv")
    labels.write_text("patient_id,label\nORIGINAL-ID,1\nP-2,0\nP-3,1\n")
    line = ["import", root, "--labels", labels, "--out", out, "--size", 32, *more]
    return CliRunner().invoke(command, [str(word) for word in line])


def facts(result: Result) -> dict[str, Any]:
    assert result.exit_code in (0, 1), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_each_sequence_becomes_a_column(tmp_path: Path, write_series: WriteSeries) -> None:
    write_tree(write_series, tmp_path / "t/a", ("t2", "flair", "t1", "t1c"))
    write_series(tmp_path / "t/pet", ramp(start=9), "PT", **PET, **FRAME)
    write_tree(
        write_series, tmp_path / "t/b", ("flair", "dwi"), PatientID="P-2", FrameOfReferenceUID="1.9"
    )
    found = facts(
        imported(tmp_path / "t", tmp_path / "out", "--modalities", "t1,t2,flair,pet", "--json")
    )
    assert (found["patients"], found["problems"]) == (2, [])
    lines = rows(tmp_path / "out")
    assert list(lines[0])[4:8] == ["t1_path", "t2_path", "flair_path", "pet_path"]
    both = {tuple(bool(line[f"{n}_path"]) for n in ("t1", "t2", "flair", "pet")) for line in lines}
    assert both == {(True, True, True, True), (False, False, True, False)}
    one = next(each for each in found["series"] if len(each["used"]) == 4)
    assert one["why"] == {
        "t1": "T1 without contrast medium, the only one",
        "t2": "T2 without contrast medium, the only one",
        "flair": "FLAIR without contrast medium, the only one",
        "pet": "the only one",
    }
    (left,) = one["left"]
    assert left.startswith("MR series 4 'AX T1 POST GAD'")
    assert "no rule takes it (t1: with contrast medium, t2: T1, flair: T1)" in left


@pytest.mark.parametrize("name", list(SEQUENCES))
def test_general_rules_know_the_sequences(
    tmp_path: Path, write_series: WriteSeries, name: str
) -> None:
    write_tree(write_series, tmp_path, list(SEQUENCES))
    stacks, _ = stacks_of(scan_tree(tmp_path).slices)
    choice = choose(stacks, window="brain", max_gap_days=30, rules=SeriesRules(modalities=[name]))
    assert {n: s.traits.description for n, s in choice.used.items()} == {
        name: SEQUENCES[name]["SeriesDescription"]
    }


def test_nothing_is_imported_that_was_not_asked_for(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_series(tmp_path / "t/ct", ramp(), **FRAME)
    write_series(tmp_path / "t/pet", ramp(), "PT", **PET, **FRAME)
    found = facts(imported(tmp_path / "t", tmp_path / "out", "--json"))
    assert found["skipped"] == {"modality PT": 4}
    found = facts(imported(tmp_path / "t", tmp_path / "two", "--modalities", " pet ", "--json"))
    assert found["skipped"] == {"modality CT": 4}
    assert set(rows(tmp_path / "two")[0]) & {"ct_path", "pet_path"} == {"pet_path"}


def test_modalities_may_stand_in_the_file_of_rules(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_tree(write_series, tmp_path / "t", ("t1", "flair"))
    write_series(tmp_path / "t/x", ramp(start=5), "MR", SeriesDescription="MY QSM THING", **FRAME)
    rules = tmp_path / "import.yaml"
    rules.write_text(
        "modalities: [flair, qsm, t1c]\n"
        "qsm: [{modality: MR, description: thing}]\n"
        "t1c: [{description: gad}, {sequence: T1}]\n"
    )
    found = facts(imported(tmp_path / "t", tmp_path / "out", "--rules", rules, "--json"))
    (series,) = found["series"]
    assert series["why"] == {
        "flair": "FLAIR without contrast medium, the only one",
        "qsm": "rule 1 of --rules, the only one",
        "t1c": "rule 2 of --rules, the only one",
    }
    assert "t: rule 1 of t1c of --rules: no series here keeps it" in found["notes"]
    assert sum("of --rules" in note for note in found["notes"]) == 1
    assert not any("susceptibility" in note for note in found["notes"])  # it was asked for


def test_a_modality_that_nobody_has_is_said(tmp_path: Path, write_series: WriteSeries) -> None:
    write_tree(write_series, tmp_path / "t", ("t1",))
    found = facts(imported(tmp_path / "t", tmp_path / "out", "--modalities", "t1,pet", "--json"))
    assert "t: PET: no patient here has one" in found["notes"]


@pytest.mark.parametrize(
    ("modalities", "words"),
    [
        ("t1,fa", "fa: nothing says which series of DICOM it is"),
        ("mri,t2", "mri is any series of MR, and t2 is some of them"),
        ("t1,T2", "--modalities: 'T2' is no name of a modality"),
        ("t1,t1", "--modalities: must name one modality or more, each once"),
        (",", "--modalities: must name one modality or more"),
    ],
)
def test_modalities_that_say_nothing_are_refused(
    tmp_path: Path, write_series: WriteSeries, modalities: str, words: str
) -> None:
    write_tree(write_series, tmp_path / "t", ("t1",))
    refused = imported(tmp_path / "t", tmp_path / "out", "--modalities", modalities)
    assert isinstance(refused.exception, ConfigurationError)
    assert words in str(refused.exception)
    assert not list(tmp_path.glob("out*"))


def test_a_series_is_used_once_by_the_better_rule(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_tree(write_series, tmp_path, ("t1", "t1c"))
    rules = SeriesRules(
        modalities=["t1", "t1c"],
        t1=[SeriesRule(contrast=False), SeriesRule()],
        t1c=[SeriesRule(contrast=True)],
    )
    stacks, _ = stacks_of(scan_tree(tmp_path).slices)
    used = choose(stacks, window="brain", max_gap_days=30, rules=rules).used
    assert used["t1"].traits.contrast is False
    assert used["t1c"].traits.contrast is True


def test_a_pet_that_is_not_corrected_for_attenuation_is_the_last_resort(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    plain: dict[str, Any] = {"SOPClassUID": PositronEmissionTomographyImageStorage}
    for number, (name, corrected) in enumerate(
        [("PET NAC", ["DECY"]), ("PET", ["DECY", "SCAT"]), ("PET AC", ["DECY", "ATTN"])]
    ):
        header = {"SeriesDescription": name, "CorrectedImage": corrected, "SeriesNumber": number}
        write_series(tmp_path / name, ramp(6), "PT", gap=20.0, **plain, **header)
    stacks, _ = stacks_of(scan_tree(tmp_path, kinds=("PT",)).slices)
    rules = SeriesRules(modalities=["pet"])
    choice = choose(stacks, window="brain", max_gap_days=30, rules=rules)
    assert choice.used["pet"].traits.description == "PET AC"
    assert {why for _, why in choice.left} == {"not corrected for attenuation"}


# The choice against every combination


def every_combination(stacks: Sequence[Stack], rules: SeriesRules, days: int) -> dict[str, Stack]:
    """The best by looking at each one: what the product itself avoids."""
    rivals: dict[str, list[tuple[int, int, Stack]]] = {}
    for number, stack in enumerate(sorted(stacks, key=lambda s: s.traits.number or 0)):
        taker = rules.taker(stack.described)
        if taker:
            rivals.setdefault(taker[0], []).append((taker[1], number, stack))
    names = [name for name in rules.modalities if name in rivals]

    def rank(used: tuple[tuple[int, int, Stack], ...]) -> tuple[Any, ...]:
        graded = [[value for value, _ in ranks(stack, "brain")] for _, _, stack in used]
        dates = [stack.first.study_date for _, _, stack in used]
        known = [day for day in dates if day is not None]
        between = (max(known) - min(known)).days if known else 0
        unknown = len(used) < 2 or len(known) < len(used)
        return (
            sum(place for place, _, _ in used),
            between > days,
            sum(sum(each[:2]) for each in graded),
            unknown,
            between,
            [each[2:] for each in graded],
            [number for _, number, _ in used],
        )

    best = min(itertools.product(*(rivals[name] for name in names)), key=rank)
    return {name: stack for name, (_, _, stack) in zip(names, best, strict=True)}


def test_the_choice_is_the_best_of_every_combination(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    """300 draws of 3 modalities with up to 5 series each: visits, undated ones, worse ones."""
    made = []
    for name in ("T1", "T2", "FLAIR"):
        for number in range(5):
            more = {"SeriesDescription": f"{name} AX", "SeriesNumber": number}
            made += write_series(tmp_path / f"{name}{number}", ramp(2, 4), "MR", **more)
    stacks, _ = stacks_of(scan_tree(tmp_path).slices)
    random = np.random.default_rng(5)
    rules = SeriesRules(
        modalities=["t1", "t2", "flair"],
        flair=[SeriesRule(thickness_mm=[0, 3]), SeriesRule(sequence="FLAIR")],
    )
    for _ in range(300):
        some = [redrawn(stack, random) for stack in stacks if random.random() < 0.8]
        choice = choose(some, window="brain", max_gap_days=30, rules=rules)
        assert choice.used == every_combination(some, rules, 30)


def redrawn(stack: Stack, random: np.random.Generator) -> Stack:
    """The same series with another date, thickness, size and part of the body."""
    from dataclasses import replace

    dates = [None, date(2024, 1, 1), date(2024, 1, 20), date(2024, 3, 1), date(2024, 3, 4)]
    traits = replace(
        stack.traits,
        part=str(random.choice(["", "a part of the head"])),
        derived=bool(random.random() < 0.3),
    )
    slices = tuple(
        replace(
            item,
            study_date=dates[random.integers(len(dates))] if number == 0 else item.study_date,
            thickness=float(random.choice([2.0, 5.0])),
            traits=traits,
        )
        for number, item in enumerate(stack.slices)
    )
    return Stack(slices)


# SPECT


def write_spect(
    path: Path,
    plain: Path,
    stored: NDArray[np.int16],
    *,
    spacing: float,
    order: Sequence[int] | None = None,
    **header: Any,
) -> None:
    """A reconstructed nuclear volume in one file, from the header of a plain one."""
    import pydicom

    dataset = pydicom.dcmread(plain)
    plain.unlink()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = NuclearMedicineImageStorage
    detector = Dataset()
    detector.ImagePositionPatient = dataset.ImagePositionPatient
    detector.ImageOrientationPatient = dataset.ImageOrientationPatient
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    dataset.DetectorInformationSequence = [detector]
    dataset.Modality, dataset.ImageType = "NM", ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    dataset.NumberOfFrames, (dataset.Rows, dataset.Columns) = len(stored), stored.shape[1:]
    dataset.NumberOfSlices = len(stored)
    dataset.SliceVector = list(order or range(1, len(stored) + 1))
    dataset.FrameIncrementPointer = 0x00540080
    dataset.SpacingBetweenSlices = dataset.SliceThickness = spacing
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = stored.astype("<i2").tobytes()
    dataset.save_as(path)


def spect(tree: Path) -> Any:
    stacks, refused = stacks_of(scan_tree(tree, kinds=("NM",)).slices)
    assert not refused
    (stack,) = stacks
    return build_series(stack)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_spect_is_a_volume_of_its_frames(
    tmp_path: Path, write_series: WriteSeries, sign: int
) -> None:
    (plain,) = write_series(tmp_path / "t", ramp(1), "MR", origin=(3, 4, 5))
    write_spect(tmp_path / "t/spect", plain, ramp(6), spacing=sign * 4.0)
    series = spect(tmp_path / "t")
    heights = [5 + sign * 4.0 * number for number in range(6)]
    assert series.positions is not None
    assert series.positions[:, 2].tolist() == sorted(heights)
    assert np.array_equal(series.values, ramp(6)[:: sign or 1])


def test_a_spect_s_frames_lie_where_its_slice_vector_says(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    (plain,) = write_series(tmp_path / "t", ramp(1), "MR")
    write_spect(tmp_path / "t/spect", plain, ramp(4), spacing=4.0, order=[2, 1, 4, 3])
    assert np.array_equal(spect(tmp_path / "t").values, ramp(4)[[1, 0, 3, 2]])


@pytest.mark.parametrize("kind", ["STATIC", "TOMO", "WHOLE BODY", "RECON GATED TOMO"])
def test_nuclear_pictures_that_are_no_volume_are_skipped(
    tmp_path: Path, write_series: WriteSeries, kind: str
) -> None:
    (plain,) = write_series(tmp_path / "t", ramp(1), "MR")
    types = ["ORIGINAL", "PRIMARY", kind, "EMISSION"]
    write_spect(tmp_path / "t/spect", plain, ramp(4), spacing=4.0, ImageType=types)
    scan = scan_tree(tmp_path / "t", kinds=("NM",))
    assert (scan.slices, scan.problems) == ([], [])
    assert scan.skipped.counts == {"nuclear image that is no reconstructed volume": 1}


def test_a_slice_vector_that_numbers_nothing_is_a_problem(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    (plain,) = write_series(tmp_path / "t", ramp(1), "MR")
    write_spect(tmp_path / "t/spect", plain, ramp(4), spacing=4.0, order=[1, 1, 2, 3])
    (problem,) = scan_tree(tmp_path / "t", kinds=("NM",)).problems
    assert "SliceVector that does not number its 4 frames" in problem.reason


@needs_dcm2niix
def test_a_pet_with_a_slope_of_its_own_in_each_slice_is_what_dcm2niix_makes(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    stored = np.random.default_rng(1).integers(0, 3000, (6, 14, 17)).astype(np.int16)
    files = write_series(tmp_path / "t", stored, "PT", **PET)
    edit_all(files, Units="BQML", CorrectedImage=["DECY", "ATTN"])
    for number, path in enumerate(files):
        edit(path, RescaleSlope=1 + number / 4, RescaleIntercept=0)
    stacks, _ = stacks_of(scan_tree(tmp_path / "t", kinds=("PT",)).slices)
    (made,) = converted(tmp_path / "t", tmp_path / "out")
    assert furthest(build_series(stacks[0]), made) < 1e-2


@needs_dcm2niix
def test_a_spect_is_what_dcm2niix_makes(tmp_path: Path, write_series: WriteSeries) -> None:
    """Of slices behind each other: it takes no negative spacing, which the standard has."""
    stored = np.random.default_rng(1).integers(0, 900, (6, 14, 17)).astype(np.int16)
    (plain,) = write_series(tmp_path / "t", stored[:1], "MR", origin=(3, 4, 5))
    write_spect(tmp_path / "t/spect", plain, stored, spacing=4.0)
    (made,) = converted(tmp_path / "t", tmp_path / "out")
    assert furthest(spect(tmp_path / "t"), made) < 1e-3
