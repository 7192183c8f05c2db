"""Several people under one PatientID are refused by name; one person written twice is not."""

from pathlib import Path

import pytest

from securefed.data.dicom.identity import contradiction, person_of
from securefed.errors import DataError
from tests.data.dicom.test_roles import header
from tests.data.dicom.trees import WriteSeries, ramp, run

ANNA = {"PatientName": "Able^Anna", "PatientBirthDate": "19480301", "PatientSex": "F"}


@pytest.mark.parametrize(
    ("one", "other", "fields"),
    [
        ({"PatientName": "Able^Anna"}, {"PatientName": "Baker^Bob"}, "PatientName"),
        ({"PatientName": "Able^Anna"}, {"PatientName": "Able^Bob"}, "PatientName"),
        (ANNA, {**ANNA, "PatientBirthDate": "19990612"}, "PatientBirthDate"),
        (ANNA, {**ANNA, "PatientSex": "M"}, "PatientSex"),
        ({"IssuerOfPatientID": "North"}, {"IssuerOfPatientID": "South"}, "IssuerOfPatientID"),
        (
            {"PatientAge": "070Y", "StudyDate": "20240101"},
            {"PatientAge": "031Y", "StudyDate": "20240101"},
            "PatientAge",
        ),
        (ANNA, {"PatientName": "Baker^Bob", "PatientSex": "M"}, "PatientName and PatientSex"),
        # The same person, as hospitals write it.
        (ANNA, {**ANNA, "PatientName": "ABLE^ANNA^M"}, None),
        (ANNA, {**ANNA, "PatientName": "Anna Able"}, None),
        (ANNA, {**ANNA, "PatientName": "Miller^Anna"}, None),  # the birth date confirms
        (ANNA, {"PatientName": "", "PatientSex": "O"}, None),
        (ANNA, {"PatientName": "Anonymous^", "PatientBirthDate": "19000101"}, None),
        (
            {"PatientAge": "070Y", "StudyDate": "20200101"},
            {"PatientAge": "074Y", "StudyDate": "20240101"},
            None,
        ),
        ({}, {}, None),
        ({"PatientName": "M\u00fcller^S\u00f8ren"}, {"PatientName": "MUELLER^SOREN"}, None),
        ({"PatientName": "Wei\u00df^Ida"}, {"PatientName": "WEISS^IDA"}, None),
        ({"PatientName": "Yamada^Taro"}, {"PatientName": "\u5c71\u7530^\u592a\u90ce"}, None),
        (
            {"PatientName": "\u5c71\u7530^\u592a\u90ce"},
            {"PatientName": "\u9234\u6728^\u4e00\u90ce"},
            "PatientName",
        ),
    ],
)
def test_people_under_one_id_are_compared(
    one: dict[str, str], other: dict[str, str], fields: str | None
) -> None:
    people = [person_of(header(**one)), person_of(header(**other))]
    assert contradiction(people) == fields
    assert contradiction(people[::-1]) == fields


def test_two_people_under_one_id_are_not_paired(tmp_path: Path, write_series: WriteSeries) -> None:
    write_series(tmp_path / "t/ct", ramp(), **ANNA)
    write_series(tmp_path / "t/mr", ramp(), "MR", PatientName="Baker^Bob")
    write_series(tmp_path / "t/other", ramp(), PatientID="OTHER")
    report = run(tmp_path / "t", tmp_path / "out", {"ORIGINAL-ID": 1, "OTHER": 0})
    (problem,) = map(str, report.problems)
    assert problem.startswith("ct/IM00000: its PatientID stands for different people, by PatientN")
    assert "Able" not in problem
    assert "1948" not in problem


@pytest.mark.parametrize("placeholder", ["ANON", "0000", "nan", "UNKNOWN"])
def test_an_id_that_stands_for_nobody_is_refused(
    tmp_path: Path, write_series: WriteSeries, placeholder: str
) -> None:
    write_series(tmp_path / "t/ct", ramp(), PatientID=placeholder)
    with pytest.raises(DataError, match="stands for no patient"):
        run(tmp_path / "t", tmp_path / "out", {placeholder: 1})
