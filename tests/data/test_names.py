"""Names that stand for nobody are refused, and two spellings of one name are recognised."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefed.data.names import alike, require_cell, require_patient, require_site, shown, spelling
from securefed.data.pseudonyms import SiteKey
from securefed.errors import DataError


@pytest.mark.parametrize(
    "name",
    [
        *("nan", "NaN", "NA", "N/A", "#N/A", "<NA>", "None", "NULL", "null", "NaT", "#REF!"),
        *("#VALUE!", "#DIV/0!", "unknown", "Anonymous", "ANON", "anonymised", "DEIDENTIFIED"),
        *(
            "-",
            "?",
            "...",
            "___",
            "0000",
            "0",
            "99999999",
            "nan\u200b",
            "not  available",
            "Patient",
        ),
    ],
)
def test_what_stands_for_nobody_is_refused_by_name(name: str) -> None:
    with pytest.raises(DataError, match="stands for no patient") as caught:
        require_patient(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["1.23457E+11", "1.2e+05", "4E+15", "1,2E+10"])
def test_a_number_that_a_spreadsheet_has_shortened_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="spreadsheet has shortened"):
        require_patient(name)


@pytest.mark.parametrize(
    "name",
    [
        *("P-01", "Müller-7", "p0123456789abcdef01234567", "12345e67", "7", "007", "nancy", "Anna"),
        *("90", "9", "1990", "00001", "山田-3", "study 4/patient 2", "a" * 100),
    ],
)
def test_names_of_patients_pass_as_they_are(name: str) -> None:
    assert require_patient(name) == name


@pytest.mark.parametrize(
    "name",
    ['=HYPERLINK("http://a.b")', "@SUM(1)", "+cmd|' /C calc'!A0", "-2+3", "=1", "-x", "\uff1d1+1"],
)
def test_what_a_spreadsheet_would_evaluate_is_refused(name: str) -> None:
    """Tables of predictions and problems are opened in one."""
    with pytest.raises(DataError, match="is a formula"):
        require_patient(name)


def test_other_cells_that_are_written_on_are_no_formulas_either() -> None:
    for text in ("", "follow-up 2", "k" * 100, "-3"):
        assert require_cell("study", text) == text
    for text in ("=1+1", "@SUM(1)", "\uff0b1+cmd", "a\x1b[31m", "a" * 101):
        with pytest.raises(DataError, match="study"):
            require_cell("study", text)


def test_zero_and_nines_count_where_people_are_counted_from_there() -> None:
    for name, among in (("0", {"1"}), ("000", {"001"}), ("99", {"98", "100"})):
        assert require_patient(name, among) == name
        with pytest.raises(DataError):
            require_patient(name, {"5"})


@pytest.mark.parametrize(
    "name", ["a\nb", "a\x1b[31mred", "a\0b", "a\u2028b", "\ud800", "a" * 101, ""]
)
def test_names_that_would_forge_lines_or_colours_are_refused(name: str) -> None:
    for require in (require_patient, require_site):
        with pytest.raises(DataError) as caught:
            require(name)
        assert "\n" not in str(caught.value)
        assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../outside",
            "Neuro A/B",
            "a\\b",
            "..",
            ".",
            ".hidden",
            "/etc",
            "C:\\x",
            "~root",
            "-rf",
        ),
        *("=1+1", "+1", "@SUM(A1)", "=HYPERLINK(1)", "[red]x[/red]", "<b>x</b>", "con", "NUL.txt"),
        *("nan", "#N/A", "a" * 61, "name.", "a:b", "a|b", "a*b", "$HOME", "`id`", "a;b", "%00"),
    ],
)
def test_a_site_that_is_no_name_of_a_folder_is_refused_by_name(name: str) -> None:
    with pytest.raises(DataError, match=r"^site "):
        require_site(name)


@pytest.mark.parametrize(
    "name", ["north", "site-1", "Site A", "St. Mary's (old)", "Köln", "7", "A & B", "Uniklinik_2"]
)
def test_names_of_sites_pass_as_they_are(name: str) -> None:
    assert require_site(name) == name


@pytest.mark.parametrize(
    "names",
    [
        ("Pat01", "PAT01", "pat 01", "PAT-1", "pat_001", "Pat01\u200b", "\u202aPat01\u202c"),
        ("P 03", "P  03", "P\u00a003", "p-03", "P03", "Ｐ０３"),
        ("7", "007", "7.0", "07", "7."),
        ("Site A", "site a", "SITE\u00a0 A", "Site-A"),
        ("A-12", "\u0410-12"),  # a Cyrillic capital
        ("Müller", "Mu\u0308ller", "MÜLLER"),
        ("Straße 1", "STRASSE 1"),
    ],
)
def test_spellings_of_one_name_are_alike(names: tuple[str, ...]) -> None:
    assert len({spelling(name) for name in names}) == 1
    assert alike([*names, "somebody else"]) == [names]


@pytest.mark.parametrize(
    "names",
    [
        ("p1-12", "p11-2", "p112"),
        ("10", "1", "100", "01 0"),
        ("A1", "B1", "1A", "1"),
        ("phantom-2-1-00000", "phantom-2-0-00001", "phantom-21-00000"),
        ("Müller", "Muller"),
        ("!", "?"),
    ],
)
def test_other_names_are_not_alike(names: tuple[str, ...]) -> None:
    assert alike(names) == []


def test_pseudonyms_of_different_people_are_not_alike() -> None:
    """Random ones differ in more than leading zeros: the chance of a false alarm is below 1e-15."""
    key = SiteKey(b"k" * 32)
    assert alike(key.pseudonym(str(number)) for number in range(3000)) == []


@given(st.text(max_size=30))
def test_any_text_is_passed_as_it_is_or_refused_and_can_be_shown(text: str) -> None:
    spelling(text)
    assert "\n" not in shown(text)
    for require in (require_patient, require_site):
        with suppress(DataError):
            assert require(text) == text


def test_names_that_look_the_same_are_told_apart_when_shown() -> None:
    assert shown("Zo\u00eb") == "'Zo\u00eb'"
    assert shown("Zoe\u0308") == "'Zoe\\u0308'"
    for name in ("Universit\u00e4t", "Universita\u0308t", "\u5317\u4eac"):
        assert require_site(name) == name
    assert len(alike(["Universit\u00e4t", "Universita\u0308t"])) == 1
