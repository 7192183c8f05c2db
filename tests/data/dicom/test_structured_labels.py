"""Labels from structured reports: found by the name of a concept, the latest one, never guessed."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, generate_uid

from securefed.cli.data import command
from securefed.data.dicom.files import scan_tree
from securefed.errors import ConfigurationError, DataError
from tests.data.dicom.trees import WriteSeries, ramp, rows

GLIOMA = ("93054004", "SCT", "Glioma")


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def content(name: str, value: Any = None, *below: Dataset) -> Dataset:
    """An item: a code where the value is a tuple, a text or a number, a container without one."""
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ConceptNameCodeSequence = [code("1", "99LOCAL", name)]
    item.ValueType = "CONTAINER"
    if isinstance(value, tuple):
        item.ValueType, item.ConceptCodeSequence = "CODE", [code(*value)]
    elif isinstance(value, str):
        item.ValueType, item.TextValue = "TEXT", value
    elif value is not None:
        measured = Dataset()
        measured.NumericValue = value
        item.ValueType, item.MeasuredValueSequence = "NUM", [measured]
    if below:
        item.ContentSequence = Items(below)
    return item


def write_report(path: Path, *items: Dataset, patient: str = "ORIGINAL-ID", **header: Any) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComprehensiveSRStorage, generate_uid()
    dataset.PatientID, dataset.PatientName, dataset.Modality = patient, "Doe^Jane", "SR"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.ContentDate, dataset.ContentTime = "20240105", "101500"
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "VERIFIED"
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [code("126000", "DCM", "Imaging Report")]
    dataset.ContentSequence = Items(items)
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def tree(tmp_path: Path, write_series: WriteSeries) -> Path:
    write_series(tmp_path / "t/ct", ramp(6), gap=20.0)
    return tmp_path / "t"


def imported(tree: Path, concept: str = "Diagnosis", *more: object, labels: str = "") -> Result:
    line = ["import", tree, "--out", tree.with_name("out"), "--label-report", concept]
    if labels:
        tree.with_name("import.yaml").write_text(f"labels: {{{labels}}}\n")
        more = (*more, "--rules", tree.with_name("import.yaml"))
    words = [*line, "--size", 32, "--json", *more]
    return CliRunner().invoke(command, [str(word) for word in words])


def facts(result: Result) -> dict[str, Any]:
    assert result.exit_code in (0, 1), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def label(tree: Path) -> set[str]:
    return {row["label"] for row in rows(tree.with_name("out"))}


@pytest.mark.parametrize(
    ("items", "concept", "labels", "expected"),
    [
        ([content("Diagnosis", "tumour")], "Diagnosis", "", "1"),
        ([content("Diagnosis", "  No   Tumour ")], "diagnosis", "", "0"),
        ([content("Diagnosis", GLIOMA)], "Diagnosis", "Glioma: 1", "1"),
        ([content("Diagnosis", GLIOMA)], "Diagnosis", "glioma: tumour", "1"),
        ([content("Diagnosis", GLIOMA)], "Diagnosis", "93054004: yes", "1"),
        ([content("Diagnosis", GLIOMA)], "Diagnosis", "'SCT:93054004': no", "0"),
        ([content("Diagnosis", "tumour")], "99LOCAL:1", "", "1"),
        ([content("Tumour", 1)], "Tumour", "", "1"),
        ([content("Tumour", 0.0)], "Tumour", "", "0"),
        ([content("Findings", None, content("Head", None, content("Diagnosis", "no")))],
         "Diagnosis", "", "0"),
        ([content("History", "Diagnosis: tumour"), content("Diagnosis", "no")],
         "Diagnosis", "", "0"),
        ([content("Diagnosis", "no", content("Diagnosis", "negative"))], "Diagnosis", "", "0"),
        ([content("Diagnosis"), content("Diagnosis", "yes")], "Diagnosis", "", "1"),
    ],
)  # fmt: skip
def test_a_label_is_found_by_the_name_of_its_concept(
    tree: Path, items: list[Dataset], concept: str, labels: str, expected: str
) -> None:
    write_report(tree / "sr", *items)
    found = facts(imported(tree, concept, labels=labels))
    assert (found["patients"], found["problems"], found["skipped"]) == (1, [], {})
    assert label(tree) == {expected}
    assert not [note for note in found["notes"] if "report" in note]


def test_a_maker_s_own_class_of_report_is_read(tree: Path) -> None:
    write_report(tree / "sr", content("Diagnosis", "yes"), SOPClassUID="1.3.12.2.1107.5.9.1")
    facts(imported(tree))
    assert label(tree) == {"1"}


def test_the_latest_report_counts_and_an_earlier_one_that_differs_is_told(tree: Path) -> None:
    write_report(tree / "a", content("Diagnosis", "yes"), ContentTime="235900")
    write_report(tree / "b", content("Diagnosis", "no"), ContentDate="20240106", ContentTime="08")
    write_report(tree / "c", content("Other", "no"), ContentDate="20240107")
    found = facts(imported(tree))
    assert label(tree) == {"0"}
    (note,) = (note for note in found["notes"] if "report" in note)
    assert note.endswith(
        "another report of its gives another label; the latest complete one is used"
    )
    assert "2024" not in note


def test_reports_that_agree_are_no_matter(tree: Path) -> None:
    for number, words in enumerate(("yes", "tumour", "positive")):
        write_report(tree / str(number), content("Diagnosis", words), ContentTime=f"1{number}0000")
    found = facts(imported(tree))
    assert label(tree) == {"1"}
    assert not [note for note in found["notes"] if "report" in note]


@pytest.mark.parametrize(
    "second",
    [{}, {"ContentDate": ""}],
    ids=["same time", "no date"],
)
def test_reports_that_no_time_tells_apart_must_agree(tree: Path, second: dict[str, str]) -> None:
    write_report(tree / "a", content("Diagnosis", "yes"))
    write_report(tree / "b", content("Diagnosis", "no"), **second)
    refused = imported(tree)
    assert isinstance(refused.exception, DataError)
    assert "the reports of one time contradict each other in their label" in str(refused.exception)


def test_one_report_that_contradicts_itself_costs_the_patient(tree: Path) -> None:
    write_report(tree / "a", content("Diagnosis", "yes"), content("Diagnosis", "no"))
    refused = imported(tree)
    assert "the values of its report contradict each other" in str(refused.exception)


@pytest.mark.parametrize(
    "flag", [{"CompletionFlag": "PARTIAL"}, {"PreliminaryFlag": "PRELIMINARY"}]
)
def test_a_report_that_is_not_complete_counts_where_there_is_no_other(
    tree: Path, flag: dict[str, str]
) -> None:
    write_report(tree / "b", content("Diagnosis", "no"), ContentDate="20240109", **flag)
    found = facts(imported(tree))
    assert label(tree) == {"0"}
    assert any("1 patient is from a preliminary or partial report (" in n for n in found["notes"])
    write_report(tree / "a", content("Diagnosis", "yes"))
    found = facts(imported(tree, "Diagnosis", "--force"))
    assert label(tree) == {"1"}
    assert not any("preliminary" in note for note in found["notes"])
    assert any("another report of its gives another label" in note for note in found["notes"])


def test_what_nobody_has_verified_is_said(tree: Path) -> None:
    write_report(tree / "b", content("Diagnosis", "no"), VerificationFlag="UNVERIFIED")
    notes = facts(imported(tree))["notes"]
    assert any("1 patient is from a report that nobody has verified (" in note for note in notes)


def test_a_value_that_is_no_label_is_a_problem_with_the_way_out(
    tree: Path, write_series: WriteSeries
) -> None:
    write_report(tree / "a", content("Diagnosis", "Astrocytoma " + "x" * 99))
    write_series(tree / "q", ramp(6), gap=20.0, PatientID="Q", PatientName="Roe^Q")
    write_report(tree / "b", content("Diagnosis", GLIOMA), patient="Q", PatientName="Roe^Q")
    found = facts(imported(tree, labels="glioma: 1, Meningioma: 1"))
    (problem,) = found["problems"]
    assert "'Astrocytoma xxx" in problem
    assert "is no label (labels: of import.yaml can make it one)" in problem
    assert "x" * 60 not in problem  # a text may be a page, and name people
    assert "t: labels of --rules: nothing here says 'Meningioma'" in found["notes"]


def test_where_the_concept_is_nowhere_those_that_there_are_are_told(tree: Path) -> None:
    write_report(tree / "a", content("Impression", "no"), content("Findings", "no"))
    refused = imported(tree)
    assert "no structured report has 'Diagnosis'; they have 'Imaging Report', 'Impression'" in str(
        refused.exception
    )
    (tree / "a").unlink()
    assert "there is no structured report" in str(imported(tree).exception)


def test_a_report_of_another_person_under_the_id_costs_the_patient(tree: Path) -> None:
    write_report(tree / "a", content("Diagnosis", "no"), PatientName="Roe^Richard")
    assert "stands for different people, by PatientName" in str(imported(tree).exception)


def test_reports_without_scans_are_named(tree: Path) -> None:
    write_report(tree / "a", content("Diagnosis", "no"))
    write_report(tree / "b", content("Diagnosis", "no"), patient="GONE")
    notes = facts(imported(tree))["notes"]
    assert "label list: no scan here of 1 of 2 labelled patients: 'GONE'" in notes


def test_nothing_of_a_report_is_written(tree: Path) -> None:
    write_report(tree / "a", content("Diagnosis", GLIOMA), content("History", "Jane fell"))
    facts(imported(tree, labels="Glioma: 1"))
    for path in tree.with_name("out").rglob("*"):
        assert not path.is_file() or b"lioma" not in path.read_bytes()


def test_reports_are_skipped_where_labels_are_elsewhere(tree: Path) -> None:
    write_report(tree / "a", content("Diagnosis", "no"))
    scan = scan_tree(tree)
    assert (len(scan.slices), scan.reports) == (6, [])
    assert scan.skipped.counts == {"no image: Comprehensive SR Storage": 1}


def deep(path: Path, levels: int) -> None:
    """A report whose items lie in each other; written by hand, as pydicom writes none so deep."""
    write_report(path, content("Diagnosis", "yes"))
    data, tag = path.read_bytes(), b"\x40\x00\x30\xa7"  # ContentSequence
    items = b""
    for _ in range(levels):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(items)) + items
        items = tag + b"SQ\0\0" + struct.pack("<I", len(item)) + item
    path.write_bytes(data[: data.index(tag)] + items)


@pytest.mark.parametrize(("levels", "told"), [(50, False), (150, True), (3000, True)])
def test_a_report_of_any_depth_ends(tree: Path, levels: int, told: bool) -> None:
    deep(tree / "a", levels)
    problems = scan_tree(tree, label_report="Diagnosis").problems
    assert ["items lie too deep" in problem.reason for problem in problems] == [True] * told


def test_a_report_of_nobody_is_a_problem(tree: Path) -> None:
    write_report(tree / "a", content("Diagnosis", "yes"), patient="")
    write_report(tree / "b", content("Diagnosis", "yes"))
    (problem,) = facts(imported(tree))["problems"]
    assert "is a report without PatientID" in problem


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["--label-attribute", "PatientComments"],
            "--label-attribute and --label-report say where",
        ),
        (["--labels", "x.csv"], "--labels and --label-report say where labels are"),
    ],
)
def test_one_place_of_labels_is_enough(tree: Path, more: Sequence[str], words: str) -> None:
    refused = imported(tree, "Diagnosis", *more)
    assert isinstance(refused.exception, ConfigurationError)
    assert words in str(refused.exception)


def test_labels_may_be_of_several_classes(tree: Path, write_series: WriteSeries) -> None:
    write_report(tree / "a", content("Diagnosis", GLIOMA))
    write_series(tree / "q", ramp(6), gap=20.0, PatientID="Q", PatientName="Roe^Q")
    other = content("Diagnosis", "Hypophysenadenom")
    write_report(tree / "b", other, patient="Q", PatientName="Roe^Q")
    more = ("--classes", "healthy,glioma,pituitary")
    found = facts(imported(tree, "Diagnosis", *more, labels="Hypophysenadenom: pituitary"))
    assert found["problems"] == []
    assert label(tree) == {"glioma", "pituitary"}


def test_words_of_labels_that_are_none_are_refused(tree: Path) -> None:
    write_report(tree / "a", content("Diagnosis", GLIOMA))
    refused = imported(tree, labels="Glioma: perhaps")
    assert isinstance(refused.exception, ConfigurationError)
    assert "labels of --rules: 'Glioma': label 'perhaps' is neither" in str(refused.exception)


def test_words_of_labels_beside_a_list_are_refused(tree: Path) -> None:
    tree.with_name("import.yaml").write_text("labels: {Glioma: 1}\n")
    tree.with_name("labels.csv").write_text("patient_id,label\nORIGINAL-ID,1\n")
    line: list[object] = ["import", tree, "--out", tree.with_name("out")]
    line += ["--labels", tree.with_name("labels.csv"), "--rules", tree.with_name("import.yaml")]
    refused = CliRunner().invoke(command, [str(word) for word in line])
    assert isinstance(refused.exception, ConfigurationError)
    assert "labels of --rules are words of headers and reports" in str(refused.exception)


def test_an_attribute_s_words_may_be_mapped_too(tmp_path: Path, write_series: WriteSeries) -> None:
    write_series(tmp_path / "t", ramp(6), gap=20.0, PatientComments="GLIOM")
    rules = tmp_path / "import.yaml"
    rules.write_text("labels: {gliom: tumour}\n")
    line: list[object] = ["import", tmp_path / "t", "--out", tmp_path / "out", "--size", 32]
    line += ["--label-attribute", "PatientComments", "--rules", rules]
    result = CliRunner().invoke(command, [str(word) for word in line])
    assert result.exit_code == 0, result.output
    assert {row["label"] for row in rows(tmp_path / "out")} == {"1"}
