"""The page's text: escaped, self-contained, and free of conclusions."""

import base64
import hashlib
import re
import shutil
from pathlib import Path

import msgspec
import pytest

from securefed.config import Settings
from securefed.errors import RunError
from securefed.privacy.accounting import at_most
from securefed.reporting.facts import Report, Risk
from securefed.reporting.page import picture_address
from securefed.reporting.svg import Axis
from securefed.reporting.words import number, size, span
from securefed.secure_sum import hiding_of
from tests.reporting.conftest import facts_of, make_run
from tests.reporting.drawn import Tags, drawn

# One file, and nothing from elsewhere


def test_nothing_is_loaded_from_anywhere(html: str) -> None:
    for tag, attributes in Tags(html).found:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:")), f"<{tag} {name}={address[:60]}>"
    assert "@import" not in html
    assert "url(" not in html


def test_the_policy_allows_this_style_and_script_by_their_hashes_and_nothing_else(
    html: str,
) -> None:
    policy = next(
        m["content"] for m in Tags(html).all("meta") if "http-equiv" in m and "content" in m
    )
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy


def test_no_tag_has_inline_style_or_event_handlers(html: str) -> None:
    for tag, attributes in Tags(html).found:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag


def test_text_from_files_is_escaped_everywhere(report: Report, audited: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
    words = ("attack", "observer", "method", "metric", "scene", "reason")
    run = report.runs[0]
    audit = run.audit
    assert audit is not None
    assert run.egress is not None
    replaced = msgspec.structs.replace(
        run,
        folder=evil,
        title=evil,
        place=evil,
        configuration=evil,
        warnings=[evil],
        hospitals=[msgspec.structs.replace(h, name=evil) for h in run.hospitals],
        egress=msgspec.structs.replace(
            run.egress,
            flows=[msgspec.structs.replace(f, hospital=evil, stage=evil) for f in run.egress.flows],
        ),
        audit=msgspec.structs.replace(
            audit,
            policy_set_by=evil,
            pictures=[],
            judgements=[
                msgspec.structs.replace(line, **dict.fromkeys(words, evil))
                for line in audit.judgements
            ],
        ),
    )
    risk = Risk(
        runs=[evil], title=evil, why=evil, change=evil, commands=[evil], evidence=evil, grave=1
    )
    text = drawn(
        msgspec.structs.replace(report, title=evil, runs=[replaced], risks=[risk]), audited
    )
    tags = Tags(text)
    assert len(tags.all("script")) == 1
    assert all((image.get("src") or "").startswith("data:") for image in tags.all("img"))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_scans_of_patients_stay_off_the_page_and_phantoms_are_shown(
    report: Report, audited: Path
) -> None:
    def images(kind: str | None) -> list[str | None]:
        run = msgspec.structs.replace(report.runs[0], simulation=kind)
        text = drawn(msgspec.structs.replace(report, runs=[run]), audited)
        assert ("scans of patients cannot" in text) == (kind != "phantom")
        return [image.get("alt") for image in Tags(text).all("img")]

    scan = "True and reconstructed image"
    assert scan in images("phantom")
    for kind in (None, "paired-by-class", "made-up-patients", "paired-by-class+phantom"):
        assert scan not in images(kind)
        assert len(images(kind)) == len(images("phantom")) - 1


# What it must and must not say


def test_the_page_never_says_the_word_that_is_counsels(html: str, unaudited: Path) -> None:
    other = drawn(facts_of(unaudited), unaudited)
    for text in (html, other):
        assert "compliant" not in text.lower()
        assert "compliance" not in text.lower()


def test_the_page_says_from_how_many_a_run_of_its_numbers_hides(tmp_path: Path) -> None:
    """The sentence that the terminal shows before the run."""
    folder = make_run(tmp_path / "run", "secure", clients=4)
    (run,) = facts_of(folder).runs
    hidden = hiding_of(Settings.model_validate({"federation": {"clients": 4}}))
    assert hidden is not None
    assert run.hidden == hidden.sentence
    shown = "What you send stays hidden while at most 1 of 4 hospitals works with the server;"
    assert shown in drawn(facts_of(folder), folder)
    plain = make_run(tmp_path / "plain", "dp", clients=4)
    (run,) = facts_of(plain).runs
    assert run.hidden is None
    assert "stays hidden" not in drawn(facts_of(plain), plain)


def test_every_section_is_there_and_every_link_leads_to_one(html: str) -> None:
    anchors = {attributes["id"] for _, attributes in Tags(html).found if "id" in attributes}
    links = {(a.get("href") or "")[1:] for a in Tags(html).all("a")}
    assert links <= anchors
    wanted = "verdicts risks sees utility training privacy ledger egress audit controls settings"
    assert set(wanted.split()) <= anchors
    assert {"questions", "limits", "glossary", "integrity"} <= anchors


def test_the_first_screen_has_verdict_sights_epsilon_and_risks(html: str) -> None:
    top = html[html.index("<main") : html.index('id="sees"')]
    for text in (
        "FAIL",
        "sees sums only",
        "delta 1e-05 per patient",
        "add/remove",
        "What to change",
    ):
        assert text in top
    assert top.count("<strong>Change:</strong>") == 2  # this run has two risks


def test_at_most_three_risks_stand_unfolded(report: Report, audited: Path) -> None:
    risk = Risk(runs=["r"], title="t", why="w", change="c", commands=[], evidence="audit", grave=1)
    text = drawn(msgspec.structs.replace(report, risks=[risk] * 5), audited)
    top, folded = text[text.index('id="risks"') :].split("<details", 1)
    assert top.count("<strong>Change:</strong>") == 3
    assert "2 more" in folded


def test_an_unaudited_run_says_so_with_the_command(unaudited: Path) -> None:
    text = drawn(facts_of(unaudited), unaudited)
    assert "NOT AUDITED" in text
    assert "securefed audit" in text
    assert ">PASS<" not in text


def test_questions_link_to_figures_or_say_that_they_are_open(unaudited: Path) -> None:
    text = drawn(facts_of(unaudited), unaudited)
    assert "Not answered by this run." in text
    assert "/runs/0/privacy/sentence" in text


# Pictures, comparisons, numbers


def test_a_file_that_is_not_the_picture_its_name_says_is_refused(tmp_path: Path) -> None:
    for name in ("a.png", "a.svg"):
        (tmp_path / name).write_bytes(b"<html>no picture</html>")
        with pytest.raises(RunError, match="not a picture of the kind"):
            picture_address(tmp_path / name)


def test_a_picture_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5 * 2**20))
    with pytest.raises(RunError, match="larger than 4,194,304 bytes"):
        picture_address(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.4, 1.0), (0, 8.6), (0, 80), (0, 1_234_567), (0, 0.003)]
)
def test_ticks_are_few_in_order_and_within_the_axis(low: float, high: float) -> None:
    ticks = Axis(low, high, 0, 100).ticks()
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert low <= ticks[0]
    assert ticks[-1] <= high + 1e-9


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (number(None), "–"),
        (number(0.12345), "0.123"),
        (number(1e-5), "1e-05"),
        (number(float("nan")), "–"),
        (number(3.0), "3"),
        (at_most(7.9999), "8.000"),
        (at_most(2.0571), "2.058"),
        (span([0.1, None]), "at least 0.100"),
        (span(None), "–"),
        (size(6353), "6.4 kB"),
        (size(12), "12 B"),
    ],
)
def test_numbers_are_written_to_act_on(shown: str, wanted: str) -> None:
    assert shown == wanted


def test_a_folder_named_like_markup_is_only_text(audited: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(audited, tmp_path / "<b>run&"))
    text = drawn(facts_of(folder), folder)
    assert "<b>run" not in text
    assert "&lt;b&gt;run&amp;" in text
