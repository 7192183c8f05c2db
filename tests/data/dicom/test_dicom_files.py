"""Every file of a tree is read, or named with the reason why not."""

import io
import os
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset

from securefed.data.dicom.files import scan_tree
from securefed.errors import DataError
from tests.data.dicom.trees import WriteSeries, edit, only_series, ramp, reasons, rows, run


def strip(path: Path, *, implicit: bool = True, little: bool = True) -> None:
    """Take the preamble, the mark and the file's own header away, as old archives have it."""
    data = pydicom.dcmread(path)
    buffer = io.BytesIO()
    raw = DicomFileLike(buffer)
    raw.is_little_endian, raw.is_implicit_VR = little, implicit
    write_dataset(raw, pydicom.Dataset({element.tag: element for element in data}))
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize("implicit", [True, False])
def test_data_sets_without_mark_are_read(
    tmp_path: Path, write_series: WriteSeries, implicit: bool
) -> None:
    for path in write_series(tmp_path / "t", ramp(), "MR"):
        strip(path, implicit=implicit)
    assert only_series(tmp_path / "t").values[:, 0, 0].tolist() == [0, 10, 20, 30]


def test_files_that_only_begin_like_dicom_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x08\x00" + bytes(300))
    (tmp_path / "b").write_bytes(b"\x02\x00\x10\x00UI" + b"\xff" * 300)
    (tmp_path / "c.dcm").write_bytes(b"")
    scan = scan_tree(tmp_path)
    assert scan.skipped.counts == {"not a DICOM file": 2}
    assert list(map(str, scan.problems)) == ["c.dcm: is empty"]


def test_linked_folders_are_read_once_and_loops_are_named(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_series(tmp_path / "t/here", ramp())
    write_series(tmp_path / "archive/P-2", ramp(), PatientID="P-2")
    (tmp_path / "t/moved").symlink_to(tmp_path / "archive/P-2")
    (tmp_path / "t/moved-too").symlink_to(tmp_path / "archive/P-2")
    (tmp_path / "t/again").symlink_to(tmp_path / "t/here")
    (tmp_path / "t/here/up").symlink_to("..")
    (tmp_path / "archive/P-2/root").symlink_to("/")
    (tmp_path / "t/dead").symlink_to("nowhere")
    scan = scan_tree(tmp_path / "t")
    assert len(scan.slices) == 8
    assert scan.skipped.first == {
        "link to a folder that is read at its own place": ["again", "moved-too"],
        "link back to a folder above": ["here/up", "moved/root"],
    }
    assert [problem.place for problem in scan.problems] == ["dead"]


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert scan_tree(tmp_path).skipped.counts == {"not a regular file": 1}


def test_a_folder_that_cannot_be_opened_is_a_problem(
    tmp_path: Path, write_series: WriteSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "t/open", ramp())
    (tmp_path / "t/shut").mkdir()
    listing = os.scandir

    def refusing(place: str) -> object:
        if str(place).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(place))
        return listing(place)

    monkeypatch.setattr(os, "scandir", refusing)
    scan = scan_tree(tmp_path / "t")
    assert list(map(str, scan.problems)) == ["shut: cannot be opened (Permission denied)"]
    assert len(scan.slices) == 4


@pytest.mark.parametrize(
    ("kind", "modality", "reason"),
    [
        ("1.2.840.10008.5.1.4.1.1.4.2", "MR", "no image: MR Spectroscopy Storage"),
        ("1.2.840.10008.5.1.4.1.1.66", "MR", "no image: Raw Data Storage"),
        ("1.3.12.2.1107.5.9.1", "MR", "no image: object of a maker"),
        ("1.2.840.10008.5.1.4.1.1.88.67", "SR", "no image: X-Ray Radiation Dose SR Storage"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "SEG", "no image: Segmentation Storage"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "DOC", "no image: Encapsulated PDF Storage"),
        ("1.2.840.10008.5.1.4.1.1.128", "PT", "modality PT"),
    ],
)
def test_objects_without_an_image_are_skipped_and_are_no_faults(
    tmp_path: Path, write_series: WriteSeries, kind: str, modality: str, reason: str
) -> None:
    write_series(tmp_path / "t/good", ramp())
    (path,) = write_series(tmp_path / "t/other", ramp(1))
    edit(path, SOPClassUID=kind, Modality=modality, PixelData=None)
    if "no image" in reason:
        edit(path, Rows=None, Columns=None, PhotometricInterpretation=None)
    report = run(tmp_path / "t", tmp_path / "out")
    assert not report.problems
    assert report.skipped.counts == {reason: 1}
    assert len(rows(tmp_path / "out")) == 4


def test_a_damaged_slice_costs_that_slice(tmp_path: Path, write_series: WriteSeries) -> None:
    files = write_series(tmp_path / "t", ramp(6))
    content = files[1].read_bytes()
    files[1].write_bytes(content[:-10])
    files[3].write_bytes(files[3].read_bytes()[:350])
    report = run(tmp_path / "t", tmp_path / "out")
    cut, decoded = reasons(report)
    assert cut.startswith("IM00003: ")
    assert decoded.startswith("IM00001: the pixels cannot be decoded")
    assert len(rows(tmp_path / "out")) == 4
    assert any("spacing varies from 5.00 to 10.00" in note.reason for note in report.notes)


def test_pixels_that_lie_elsewhere_in_their_words_are_refused(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    files = write_series(tmp_path / "t", ramp(2))
    edit(files[0], BitsStored=12, HighBit=15)
    (problem,) = reasons(run(tmp_path / "t", tmp_path / "out"))
    assert problem == "IM00000: has HighBit 15 with BitsStored 12"


def test_odd_header_values_cost_at_most_their_file_and_no_warning(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    """Wrong dates and character sets are common; a number that is none is not used."""
    files = write_series(tmp_path / "t", ramp(4), SeriesDescription="HEAD AX", SeriesNumber=1)
    for path in files:
        content = path.read_bytes().replace(b"20240101", b"2024-1-1")
        path.write_bytes(content.replace(b"HEAD AX", b"H\xe4\x1b[31m"))
    number = b"\x20\x00\x13\x00IS\x02\x00"
    content = files[2].read_bytes()
    assert number in content
    files[2].write_bytes(content.replace(number + b"3", number + b"x"))
    report = run(tmp_path / "t", tmp_path / "out")
    (problem,) = reasons(report)
    assert problem.startswith("IM00002: has a header value that cannot be used")
    assert len(rows(tmp_path / "out")) == 3
    text = " ".join(report.series[0].lines())
    assert "series 1 " in text
    assert "\x1b" not in text


def test_file_names_cannot_write_to_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m\n.dcm").write_bytes(b"no")
    (tmp_path / os.fsdecode(b"\xe4.zip")).write_bytes(b"PK\x03\x04")
    scan = scan_tree(tmp_path)
    told = [str(scan.problems[0]), *scan.skipped.lines()]
    assert told[0] == r"a\x1b[31m\n.dcm: is something else, not DICOM"
    assert r"\udce4.zip" in told[1]


@pytest.mark.parametrize("syntax", ["1.2.3.4.5", "1.2.840.10008.1.2.4.100"])
def test_a_transfer_syntax_that_nothing_decodes_costs_its_slice(
    tmp_path: Path, write_series: WriteSeries, syntax: str
) -> None:
    """A maker's own, and a video's."""
    files = write_series(tmp_path / "t", ramp(3))
    dataset = pydicom.dcmread(files[1])
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([dataset.PixelData])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(files[1], implicit_vr=False, little_endian=True)
    (problem,) = reasons(run(tmp_path / "t", tmp_path / "out"))
    assert problem.startswith(
        "IM00001: the pixels cannot be decoded: no decoder for the transfer s"
    )
    assert "\n" not in problem
    assert len(rows(tmp_path / "out")) == 2


def test_pixels_of_floating_point_are_refused(tmp_path: Path, write_series: WriteSeries) -> None:
    files = write_series(tmp_path / "t", ramp(3))
    dataset = pydicom.dcmread(files[1])
    dataset.FloatPixelData = dataset.pixel_array.astype("<f4").tobytes()
    dataset.BitsAllocated = 32
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, keyword)
    dataset.save_as(files[1])
    (problem,) = reasons(run(tmp_path / "t", tmp_path / "out"))
    assert problem == "IM00001: has pixels of floating point, whose unit no rule knows"


def test_a_class_and_a_modality_that_contradict_each_other_are_refused(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    """As a CT would be, that an anonymiser called MR: it must not become the patient's MRI."""
    write_series(tmp_path / "t/a", ramp(2), Modality="MR")
    for path in write_series(tmp_path / "t/b", ramp(2)):
        path.write_bytes(path.read_bytes().replace(b"CS\x02\x00CT", b"CS\x02\x00ct"))
    scan = scan_tree(tmp_path / "t")
    assert {problem.reason for problem in scan.problems} == {
        "is CT Image Storage by its class and MR by its Modality"
    }
    assert [item.modality for item in scan.slices] == ["CT", "CT"]


def test_what_macos_puts_beside_files_is_skipped_whatever_its_suffix(
    tmp_path: Path, write_series: WriteSeries
) -> None:
    write_series(tmp_path / "t", ramp(2))
    (tmp_path / "t/._IM00000.dcm").write_bytes(b"\0\5\x16\7" + bytes(100))
    (tmp_path / "t/photo.dcm").write_bytes(b"\xff\xd8\xff" + bytes(100))
    scan = scan_tree(tmp_path / "t")
    assert scan.skipped.counts == {"macOS extras, not DICOM": 1}
    assert list(map(str, scan.problems)) == ["photo.dcm: is JPEG, not DICOM"]


def test_a_file_in_place_of_a_tree_is_called_one(tmp_path: Path) -> None:
    for name, content, hint in (
        ("DICOMDIR", bytes(128) + b"DICM", "give the top of the DICOM tree"),
        ("study.zip", b"PK\x03\x04", "unpack it, and give the folder"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="is a file, not a folder") as caught:
            scan_tree(tmp_path / name)
        assert caught.value.hint == hint


def test_reading_says_how_far_it_is(tmp_path: Path, write_series: WriteSeries) -> None:
    write_series(tmp_path, ramp(3))
    told: list[tuple[int, int]] = []
    scan_tree(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3)]
