"""A manifest names every bad line with its number and reason, and reads the others."""

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from securefed.data.images import write_png
from securefed.data.load import fingerprint, inspect_manifest, load_manifest
from securefed.data.manifest import read_manifest
from securefed.data.pseudonyms import SiteKey
from securefed.data.requirements import require_usable
from securefed.data.table import read_labels
from securefed.errors import ConfigurationError, DataError

WriteManifest = Callable[[Sequence[Sequence[str]]], Path]
Picture = Callable[[int], NDArray[np.uint8]]

HEADER = ["patient_id", "label", "site", "slice", "ct_path", "mri_path", "pair_id"]


def line(
    patient: str, image: str, label: str = "1", site: str = "a", number: str = ""
) -> list[str]:
    return [patient, label, site, number, f"ct/{image}.png", f"mri/{image}.png", ""]


def test_rows_become_patients_with_slices_in_order(
    write_manifest: WriteManifest, picture: Picture
) -> None:
    path = write_manifest(
        [
            HEADER,
            line("p1", "0", number="10"),
            line("p2", "1", label="0"),
            line("p1", "2", number="9"),
        ]
    )
    loaded = load_manifest(path, 16)
    assert loaded.problems == []
    assert [(p.patient_id, p.label, p.slices) for p in loaded.patients] == [
        ("p1", 1, 2),
        ("p2", 0, 1),
    ]
    # 9 before 10: numbers, not text.
    assert np.array_equal(loaded.patients[0].images_of("ct"), [picture(2), picture(0)])
    assert np.array_equal(loaded.patients[0].images_of("mri"), [picture(102), picture(100)])


def test_an_empty_path_is_a_missing_modality(write_manifest: WriteManifest) -> None:
    path = write_manifest(
        [HEADER, ["p", "1", "", "", "ct/1.png", "", ""], ["p", "1", "", "", "", "mri/2.png", ""]]
    )
    (patient,) = load_manifest(path, 16).patients
    assert patient.present_of("ct").tolist() == [True, False]
    assert patient.present_of("mri").tolist() == [False, True]
    assert not patient.images_of("ct")[1].any()
    assert not patient.images_of("mri")[0].any()


def test_a_blank_picture_costs_its_modality_and_no_row(write_manifest: WriteManifest) -> None:
    path = write_manifest([HEADER, line("p", "1"), line("p", "2"), line("q", "3", label="0")])
    for name in ("mri/1.png", "ct/3.png", "mri/3.png"):
        write_png(path.parent / name, np.full((16, 16), 9, np.uint8))
    loaded = load_manifest(path, 16)
    (patient,) = loaded.patients
    assert patient.present_of("ct").tolist() == [True, True]
    assert patient.present_of("mri").tolist() == [False, True]
    assert not patient.images_of("mri")[0].any()
    assert [problem.line for problem in loaded.problems] == [2, 4]
    assert loaded.problems[0].reason.startswith("1.png: is blank")
    assert loaded.problems[0].reason.endswith("; the row's others are used")
    assert "others" not in loaded.problems[1].reason
    assert (loaded.rows, loaded.usable_rows, loaded.impaired) == (3, 2, 1)
    # As strict as if the row were lost: a modality must not go in silence.
    require_usable(loaded, 0.67)
    with pytest.raises(DataError, match="2 of 3 rows cannot be used"):
        require_usable(loaded, 0.5)


@pytest.mark.parametrize("column", ["study", "person", "registration"])
def test_a_cell_that_is_a_formula_costs_its_line(
    write_manifest: WriteManifest, column: str
) -> None:
    """These are written into other tables, which a spreadsheet opens."""
    header = ["patient_id", "label", "ct_path", column]
    path = write_manifest(
        [header, ["p", "1", "ct/0.png", "=HYPERLINK(1)"], ["q", "0", "ct/1.png", ""]]
    )
    loaded = load_manifest(path, 16)
    assert [patient.patient_id for patient in loaded.patients] == ["q"]
    assert f"{column} '=HYPERLINK(1)' is a formula" in loaded.problems[0].reason


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line("", "1"), "patient_id is empty"),
        (line("q", "1", label="2"), "label '2' is neither"),
        (line("q", "1", label=""), "label '' is neither"),
        (line("q", "77"), r"ct_path 'ct/77.png': no such file"),
        (line("q", "1", number="third"), "slice 'third' is not a number"),
        (line("q", "1", number="inf"), "slice 'inf' is not a number"),
        (["q", "1", "a", "", "", "", ""], "no image is given (ct_path, mri_path)"),
        (["q", "1", "a"], "has 3 cells where the header has 7"),
        ([*line("q", "1"), "extra"], "has 8 cells where the header has 7"),
        (["q", "1", "a", "", "../secret.png", "", ""], "leads outside the manifest's folder"),
        (["q", "1", "a", "", "/etc/hostname", "", ""], "leads outside the manifest's folder"),
        (["q", "1", "a", "", "ct", "", ""], "ct_path 'ct': no such file"),
        (["q", "1", "a", "", "ct/1.png", "ct/1.png", ""], "one image as both"),
        (["q", "1", "a", "", "ct/\0.png", "", ""], "cannot be opened (embedded null byte)"),
        (
            ["q", "1", "a", "", "ct/" + 300 * "1" + ".png", "", ""],
            "cannot be opened (File name too l",
        ),
        (["q", "1", "a", "", "circle/1.png", "", ""], "cannot be opened (Symlink loop"),
        (line("q", "0"), "repeats an image of another patient, first on line 2"),
        (line("good", "0"), "repeats an image of this patient, first on line 2"),
        (line("good", "3", number="1"), "slice 1 is already on line 2"),
        (line("nan", "1"), "patient_id 'nan' stands for no patient"),
        (line("1.5E+11", "1"), "patient_id '1.5E+11' is a number that a spreadsheet"),
        (line("q", "1", site="../x"), "site '../x' cannot be the name of a folder"),
        (line("q", "1", site="#N/A"), "site '#N/A' stands for no site"),
        (line("q", "1", site=""), "site is empty"),
        (line("q\x1b[2J", "1"), r"patient_id 'q\x1b[2J' holds control characters"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(
    write_manifest: WriteManifest, bad: list[str], reason: str
) -> None:
    path = write_manifest([HEADER, line("good", "0", number="1"), bad, line("last", "5")])
    (path.parent / "circle").symlink_to("circle")
    loaded = load_manifest(path, 16)
    assert [p.patient_id for p in loaded.patients] == ["good", "last"]
    (problem,) = loaded.problems
    assert problem.line == 3
    assert reason in problem.reason
    assert str(problem).startswith("manifest.csv, line 3: ")
    assert "not every row or file could be used" in loaded.warnings


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'q,1,a,,"ct/1.png,,', "is not CSV"),
        (b'"q,1,a,,ct/1.png,mri/1.png,', "is not CSV"),
        (b'"q"x,1,a,,ct/1.png,mri/1.png,', "is not CSV"),
        (b"M\xfcller,1,a,,ct/1.png,mri/1.png,", "is not UTF-8 text"),
        (b"q,1,a,,ct/1.png,mri/1.png,caf\xe9", "is not UTF-8 text"),
        (b"q,1,a,,ct/1.png,mri/1.png," + 200_000 * b"x", "is not CSV (field larger than"),
        (b"q\0,1,a,,ct/1.png,mri/1.png,", "holds control characters"),
    ],
)
def test_bytes_that_are_no_line_cost_that_line_alone(
    write_manifest: WriteManifest, bad: bytes, reason: str
) -> None:
    path = write_manifest([HEADER, line("good", "0")])
    after = (
        b"\r\nlast,1,a,,ct/5.png,mri/5.png,\r\n" + b'other,0,a,,ct/6.png,mri/6.png,"a ""b"""\r\n'
    )
    path.write_bytes(path.read_bytes() + bad + after)
    loaded = load_manifest(path, 16)
    assert [p.patient_id for p in loaded.patients] == ["good", "last", "other"]
    (problem,) = loaded.problems
    assert problem.line == 3
    assert reason in problem.reason
    assert (loaded.rows, loaded.usable_rows) == (4, 3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(bad=st.binary(max_size=60))
def test_no_bytes_between_two_lines_cost_either_of_them(
    write_manifest_once: Path, bad: bytes
) -> None:
    """A quote, a comma, a zero byte, half a character: what stands after them is read."""
    picture = write_manifest_once / "0.png"
    if not picture.exists():
        write_png(picture, np.arange(256, dtype=np.uint8).reshape(16, 16))
        write_png(write_manifest_once / "1.png", np.arange(256, dtype=np.uint8).reshape(16, 16))
    path = write_manifest_once / "between.csv"
    path.write_bytes(b"patient_id,label,ct\nfirst one,1,0.png\n" + bad + b"\nlast one,0,1.png\n")
    manifest = read_manifest(path)
    assert [row.patient_id for row in manifest.rows] == ["first one", "last one"]


@pytest.mark.parametrize("above", ["sep=,\n", "\n\n", "SEP=,\r\n\n"])
def test_what_excel_writes_above_the_header_is_no_header(
    write_manifest: WriteManifest, above: str
) -> None:
    path = write_manifest([HEADER, line("p", "0"), line("", "1")])
    path.write_bytes(above.encode() + path.read_bytes())
    manifest = read_manifest(path)
    assert [row.patient_id for row in manifest.rows] == ["p"]
    assert [problem.line for problem in manifest.problems] == [3 + above.count("\n")]


def test_paths_as_windows_writes_them_are_found(write_manifest: WriteManifest) -> None:
    rows = [
        ["p", "1", "a", "", "ct\\0.png", "mri\\0.png", ""],
        ["q", "1", "a", "", "..\\x.png", "", ""],
    ]
    manifest = read_manifest(write_manifest([HEADER, *rows]))
    assert [row.patient_id for row in manifest.rows] == ["p"]
    assert "leads outside" in manifest.problems[0].reason


def test_a_folder_named_by_a_dot_has_its_name_in_messages(
    write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_manifest([HEADER, line("p", "0"), line("q", "1")])
    (path.parent / "ct/1.png").write_bytes(b"no picture")
    monkeypatch.chdir(path.parent)
    (problem,) = load_manifest(Path(), 16).problems
    assert str(problem).startswith(f"{path.parent.name}, line 3: 1.png")


def test_columns_that_no_rule_reads_are_named(write_manifest: WriteManifest) -> None:
    path = write_manifest([[*HEADER, "Scanner"], [*line("p", "0"), "a scanner"]])
    loaded = load_manifest(path, 16)
    assert loaded.problems == []
    assert "columns that no rule reads: 'Scanner'" in loaded.warnings


@pytest.mark.parametrize("name", ["ct_scan", "CT PNG", "image 1", "path"])
@pytest.mark.parametrize("lost", ["ct_path", "mri_path"])
def test_a_column_that_names_files_is_a_problem_where_a_modality_is_lost(
    write_manifest: WriteManifest, name: str, lost: str
) -> None:
    header = [name if column == lost else column for column in HEADER]
    loaded = load_manifest(write_manifest([header, line("p", "0"), line("q", "1")]), 16)
    assert [str(problem) for problem in loaded.problems] == [
        f"manifest.csv, line 1: column '{name}' names files, and no rule reads it: is it {lost}?"
    ]
    assert loaded.usable_rows == loaded.rows == 2
    # Beside both modalities it is a column like any other: masks, for instance.
    path = write_manifest([[*HEADER, name], [*line("p", "0"), "ct/3.png"]])
    assert load_manifest(path, 16).problems == []


def test_what_a_data_set_is_stands_in_its_manifest(write_manifest: WriteManifest) -> None:
    header = [*HEADER, "simulation"]
    rows = [[*line("p", "0"), "paired-by-class"], [*line("q", "1"), ""]]
    assert load_manifest(write_manifest([header, *rows]), 16).simulation == "paired-by-class"
    both = [*rows, [*line("r", "2"), "phantom"]]
    loaded = load_manifest(write_manifest([header, *both]), 16)
    assert loaded.simulation == "paired-by-class+phantom"
    assert load_manifest(write_manifest([HEADER, line("q", "1")]), 16).simulation == ""
    odd = load_manifest(write_manifest([header, *rows, [*line("r", "2"), "real"]]), 16)
    assert "simulation 'real' is none of" in odd.problems[0].reason
    torn = load_manifest(write_manifest([header, *rows, [*line("q", "2"), "phantom"]]), 16)
    assert [p.patient_id for p in torn.patients] == ["p"]


def test_two_people_under_one_id_are_left_out_whole(write_manifest: WriteManifest) -> None:
    header = [*HEADER, "person"]
    rows = [[*line("p", "0"), "k1"], [*line("p", "1"), "k2"], [*line("q", "2"), "k1"]]
    loaded = load_manifest(write_manifest([header, *rows]), 16)
    assert [p.patient_id for p in loaded.patients] == ["q"]
    assert loaded.persons == {"q": "k1"}
    assert "contradicts" in loaded.problems[0].reason


def test_an_unreadable_image_is_named_by_line(write_manifest: WriteManifest) -> None:
    path = write_manifest([HEADER, line("p", "0"), line("p", "1")])
    (path.parent / "mri/1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    loaded = load_manifest(path, 16)
    assert loaded.patients[0].slices == 1
    assert [(p.line, "1.png" in p.reason) for p in loaded.problems] == [(3, True)]


@pytest.mark.parametrize(
    ("second", "what"),
    [
        (line("p", "1", label="0"), "label '0' contradicts '1' on line 2"),
        (line("p", "1", site="b"), "site 'b' contradicts 'a' on line 2"),
    ],
)
def test_a_contradicting_patient_is_left_out_whole(
    write_manifest: WriteManifest, second: list[str], what: str
) -> None:
    path = write_manifest([HEADER, line("p", "0"), second, line("q", "2")])
    loaded = load_manifest(path, 16)
    assert [p.patient_id for p in loaded.patients] == ["q"]
    assert [(p.line, what in p.reason) for p in loaded.problems] == [(3, True)]


def test_line_numbers_count_blank_lines_and_quoted_line_breaks(
    write_manifest: WriteManifest,
) -> None:
    path = write_manifest([HEADER, line("p", "0")])
    with path.open("a") as file:
        file.write('\nr,1,a,,ct/1.png,,"two\nlines"\nq,9,a,,ct/2.png,,\n')
    manifest = read_manifest(path)
    assert [row.line for row in manifest.rows] == [2, 4]
    assert [problem.line for problem in manifest.problems] == [6]


@pytest.mark.parametrize(
    "header",
    [
        "case_id,label,ct_path,mri_path",
        "Subject ID;Tumor;CT;MRI",
        "patient\ttarget\tct_image\tmri_image\tcomment",
        "\ufeffPATIENT_ID,LABEL,CT_PATH,MR_PATH",
    ],
)
def test_aliases_case_delimiters_and_byte_order_marks_are_understood(
    write_manifest: WriteManifest, header: str
) -> None:
    path = write_manifest([])
    delimiter = next(d for d in ";\t," if d in header)
    cells = ["p", "tumour", "ct/0.png", "mri/0.png"] + ["note"] * (header.count(delimiter) - 3)
    path.write_text(header + "\n" + delimiter.join(cells) + "\n", encoding="utf-8")
    (row,) = read_manifest(path).rows
    assert (row.patient_id, row.label, row.site) == ("p", 1, "site-1")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no column patient_id, label"),
        (b"patient_id,ct_path\n", "has no column label"),
        (b"patient_id,label\n", "has no column ct_path or mri_path"),
        (b"patient_id,case_id,label,ct\n", "names patient_id twice"),
        ("patient_id,label,ct\n".encode("utf-16"), "is UTF-16 text, not UTF-8"),
        (b"patient_id,label,scan\n", r"no column ct_path or mri_path \(it has 'scan'"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_manifest(path)
    assert caught.value.hint


def test_absence_and_emptiness_are_refused(tmp_path: Path, write_manifest: WriteManifest) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_manifest(tmp_path / "gone.csv", 16)
    with pytest.raises(DataError, match=r"no usable patient \(.*line 2"):
        load_manifest(write_manifest([HEADER, line("p", "0", label="x")]), 16)
    with pytest.raises(ConfigurationError, match="image_size"):
        load_manifest(tmp_path / "manifest.csv", 4)


def test_a_link_out_of_the_folder_is_refused(
    tmp_path_factory: pytest.TempPathFactory, write_manifest: WriteManifest
) -> None:
    path = write_manifest([HEADER, line("p", "0"), ["q", "0", "a", "", "ct/link.png", "", ""]])
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.png"
    os.replace(path.parent / "ct/9.png", elsewhere)
    (path.parent / "ct/link.png").symlink_to(elsewhere)
    assert "leads outside" in read_manifest(path).problems[0].reason


def test_the_fingerprint_follows_content_and_not_order(write_manifest: WriteManifest) -> None:
    rows = [line("p", "0"), line("q", "1", label="0")]

    def print_of(lines: Sequence[list[str]], size: int = 16) -> str:
        loaded = load_manifest(write_manifest([HEADER, *lines]), size)
        return fingerprint(loaded.patients, SiteKey(b"k" * 32))

    first = print_of(rows)
    assert print_of(rows[::-1]) == first
    changed = [
        [line("p", "0", label="0"), rows[1]],
        [line("other", "0"), rows[1]],
        [line("p", "2"), rows[1]],
        [line("p", "0", site="b"), rows[1]],
        [["p", "1", "a", "", "ct/0.png", "", ""], rows[1]],
    ]
    others = set(map(print_of, changed))
    assert len(others | {first}) == 6
    assert print_of(rows, 8) != first


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cells=st.lists(st.lists(st.text(max_size=8), min_size=7, max_size=7), max_size=5))
def test_arbitrary_cells_give_rows_or_named_lines(
    write_manifest_once: Path, cells: list[list[str]]
) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([HEADER, *cells])
    path = write_manifest_once / "m.csv"
    path.write_bytes(buffer.getvalue().encode("utf-8", errors="replace"))
    manifest = read_manifest(path)
    filled = [row for row in cells if any(cell.strip() for cell in row)]
    assert len(manifest.rows) == 0
    assert len(manifest.problems) == len(filled)


@pytest.fixture(scope="module")
def write_manifest_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arbitrary")


def test_a_label_list_names_contradictions(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("patient_id,label\na,1\nb,0\na,0\n,1\nc,maybe\nb,no\n")
    labels = read_labels(path)
    assert labels.by_patient == {"b": 0}
    assert [problem.line for problem in labels.problems] == [4, 5, 6]


def test_the_real_pairs_load_with_their_own_column_names(real_pairs: Path) -> None:
    loaded = load_manifest(real_pairs, 64)
    assert len(loaded.patients) == 10
    assert sum(p.slices for p in loaded.patients) == 184
    assert sum(p.label for p in loaded.patients) == 3
    assert all(p.present_of("ct").all() and p.present_of("mri").all() for p in loaded.patients)
    assert loaded.problems == []
    assert "columns that no rule reads: 'diagnosis'" in loaded.warnings[0]
    assert "fewer than 100 patients support no headline figure" in loaded.warnings[1]


HABITS = {
    "quotes behind blanks": ('patient_id, label, ct\n"p", "1", "ct/0.png"\n', ["p"]),
    "more commas than columns": ("patient_id,label,ct\np,1,ct/0.png,,\n,,,,\nq,0,ct/1.png\n", "pq"),
    "one letter for yes": ("patient_id,label,ct\np,Y,ct/0.png\nq,n,ct/1.png\n", "pq"),
    "a decimal comma": (
        "patient_id;label;slice;ct\np;1,0;1,5;ct/0.png\np;1,0;10,25;ct/1.png\n",
        "pp",
    ),
}


@pytest.mark.parametrize("habit", HABITS)
def test_habits_of_spreadsheets_cost_no_line(write_manifest: WriteManifest, habit: str) -> None:
    text, patients = HABITS[habit]
    path = write_manifest([])
    path.write_text(text)
    manifest = read_manifest(path)
    assert [row.patient_id for row in manifest.rows] == list(patients)
    assert manifest.problems == []


def test_a_comma_before_three_digits_may_be_thousands(write_manifest: WriteManifest) -> None:
    path = write_manifest([])
    path.write_text("patient_id;label;slice;ct\np;1;1,234;ct/0.png\n")
    (problem,) = read_manifest(path).problems
    assert problem.reason == "slice '1,234' is not a number"


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("CT/0.PNG", "ct/0.png"),
        ("ct\\0.Png", "ct/0.png"),
        ("ct/M\u00fcller.png", "ct/Mu\\u0308ller.png"),  # macOS stores the two dots apart
        ("ct/0.png.png", None),
        ("ct", None),
    ],
)
def test_a_file_that_may_have_been_meant_is_named_and_not_used(
    write_manifest: WriteManifest, named: str, there: str | None
) -> None:
    path = write_manifest([HEADER, ["p", "1", "a", "", named, "", ""]])
    (path.parent / "ct/1.png").rename(path.parent / "ct/Mu\u0308ller.png")
    manifest = read_manifest(path)
    assert manifest.rows == []
    (problem,) = manifest.problems
    assert problem.reason.endswith(
        f"no such file, but there is '{there}'" if there else "such file"
    )


@pytest.mark.parametrize(
    ("name", "content", "kind", "way_out"),
    [
        ("m.xlsx", b"PK\x03\x04" + bytes(30), "spreadsheet", "export it as CSV"),
        ("m.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(30), "Office", "export it as CSV"),
        ("scans.zip", b"PK\x03\x04" + bytes(30), "zip archive", "unpack it"),
        ("IM1", bytes(128) + b"DICM", "DICOM", "securefed data import"),
    ],
)
def test_a_file_of_another_kind_is_named_with_what_to_do(
    tmp_path: Path, name: str, content: bytes, kind: str, way_out: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: is not CSV but {kind}") as caught:
        load_manifest(tmp_path / name, 16)
    assert (caught.value.hint or "").startswith(way_out)


def test_labels_of_which_none_can_be_used_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("patient_id,label\na,glioma\nb,meningioma\n")
    with pytest.raises(DataError, match=r"labels.csv: no usable label \(.*line 2: label 'glioma'"):
        read_labels(path)
    path.write_text("patient_id,label\n")
    with pytest.raises(DataError, match="no line below the header"):
        read_labels(path)


def test_every_modality_is_a_column_and_a_run_reads_its_own(
    write_manifest: WriteManifest, picture: Picture
) -> None:
    path = write_manifest(
        [
            ["patient_id", "label", "ct", "PET image", "mri_path", "x9_file", "dose"],
            ["p", "1", "ct/0.png", "ct/1.png", "mri/0.png", "", "7"],
            ["q", "0", "", "mri/7.png", "", "ct/9.png", "7"],
            ["r", "0", "", "gone.png", "mri/8.png", "", "7"],
        ]
    )
    whole = inspect_manifest(path, 16)
    assert [patient.modalities for patient in whole.patients] == [("ct", "pet", "mri", "x9")] * 2
    assert [str(each) for each in whole.problems] == [
        "manifest.csv, line 4: pet_path 'gone.png': no such file"
    ]
    first, second = whole.patients
    assert np.array_equal(first.images_of("pet"), [picture(1)])
    assert second.present.T.tolist() == [[False, True, False, True]]
    # A run asks for its query and context: nobody is lost by a column that it does not read.
    pair = load_manifest(path, 16, ("mri", "ct"))
    assert [patient.patient_id for patient in pair.patients] == ["p", "r"]
    assert pair.patients[0].modalities == ("mri", "ct")
    assert np.array_equal(pair.patients[0].images_of("ct"), first.images_of("ct"))
    assert [str(each) for each in pair.problems] == [
        "manifest.csv, line 3: no image is given (mri_path, ct_path)"
    ]
    with pytest.raises(DataError, match="has no column spect_path or t1_path"):
        load_manifest(path, 16, ("spect", "t1"))


def test_a_fingerprint_is_of_what_was_scanned_whatever_the_order(
    write_manifest: WriteManifest,
) -> None:
    path = write_manifest(
        [["patient_id", "label", "ct_path", "mri_path"], ["p", "1", "ct/0.png", "mri/0.png"]]
    )
    key = SiteKey(bytes(32))
    orders = (("ct", "mri"), ("mri", "ct"), ("ct", "pet", "mri"))
    prints = {fingerprint(load_manifest(path, 16, each).patients, key) for each in orders}
    assert len(prints) == 1
    swapped = load_manifest(path, 16, ("ct", "mri")).patients
    swapped = [dataclasses.replace(each, modalities=("mri", "ct")) for each in swapped]
    assert fingerprint(swapped, key) not in prints
    assert fingerprint(load_manifest(path, 16, ("ct",)).patients, key) not in prints


def test_a_file_that_is_too_long_for_a_table_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text("patient_id,label,ct_path\n")
    monkeypatch.setattr("securefed.data.table.LARGEST", path.stat().st_size)
    assert not read_manifest(path).rows
    monkeypatch.setattr("securefed.data.table.LARGEST", path.stat().st_size - 1)
    with pytest.raises(DataError, match="is larger than 24 bytes"):
        read_manifest(path)
