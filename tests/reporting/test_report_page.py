"""The page's text: escaped, self-contained, accessible in form, and free of conclusions."""

import base64
import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import click
import msgspec
import pytest

from attacks.remedies import EFFORT, MISSING
from securefed.cli.app import cli
from securefed.config import PATHS, Settings
from securefed.errors import RunError
from securefed.privacy.accounting import at_most
from securefed.record.agreement import differing_setting
from securefed.record.audit import Judgement
from securefed.reporting.facts import Report, Risk
from securefed.reporting.page import page, picture_address
from securefed.reporting.provenance import WITHHELD
from securefed.reporting.svg import Axis
from securefed.reporting.unmeasured import unmeasured
from securefed.reporting.utility import unsure_hospitals
from securefed.reporting.words import number, size, span
from securefed.secure_sum import hiding_of
from tests.reporting.conftest import add_audit, facts_of, made_up_audit, make_run

KEY = "ab" * 32
ROOT = Path(__file__).resolve().parents[2]
CONTRAST_AA = 4.5


def drawn(report: Report, folder: Path) -> str:
    return page(report, folder, fingerprint="cd" * 32, signer=KEY, opened=False)


@pytest.fixture(scope="module")
def html(report: Report, audited: Path) -> str:
    return drawn(report, audited)


class Tags(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


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
    shown = "Your update stays hidden while at most 1 of 4 hospitals works with the server;"
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


def commands(html: str) -> list[list[str]]:
    """Every command that the page shows, as a shell would take it."""
    found = re.findall(r'<span class="command"><code>(.*?)</code>', html)
    return [shlex.split(unescape(line)) for line in found]


@pytest.mark.parametrize("name", ["run", "a run"])
def test_every_command_can_be_typed_as_it_stands(
    unaudited: Path, tmp_path: Path, name: str
) -> None:
    """In the folder that the reported one lies in; none has a place to fill in."""
    folder = Path(shutil.copytree(unaudited, tmp_path / name))
    shown = commands(drawn(facts_of(folder), folder))
    assert {tuple(line[:2]) for line in shown} == {("securefed", "audit"), ("securefed", "report")}
    for program, verb, *arguments in shown:
        assert program == "securefed"
        assert name in arguments
        # Under its program's settings: a command keeps the help option it was first asked for.
        above = click.Context(cli, **cli.context_settings)
        command = cli.get_command(above, verb)
        assert command is not None
        command.make_context(verb, arguments, parent=above)  # refuses what it does not take


def test_no_text_of_a_report_has_a_place_to_fill_in(html: str, unaudited: Path) -> None:
    sources = [*(ROOT / "securefed/reporting").rglob("*.py")]
    sources += [*(ROOT / "securefed/reporting/templates").iterdir()]
    for text in (html, drawn(facts_of(unaudited), unaudited), *map(Path.read_text, sources)):
        assert not re.search(r"securefed \w+ [A-Z_]{3,}", text)


def test_a_path_is_withheld_whatever_it_looks_like(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    about = json.loads((folder / "run.json").read_text())
    about["settings"]["data"] |= {"manifest": "mueller.csv", "site_key": "C:mueller.key"}
    (folder / "run.json").write_text(json.dumps(about))
    report = facts_of(folder)
    given = {row.key: row.value for row in report.runs[0].settings}
    assert given["data.manifest"] == given["data.site_key"] == WITHHELD
    assert given["data.partition"] == "iid"
    assert "mueller" not in report.encode().decode()
    assert "mueller" not in drawn(report, folder)
    assert {"data.manifest", "data.site_key"} == PATHS


def test_a_path_that_was_changed_is_named_and_not_repeated() -> None:
    agreed, other = ({"data": {"manifest": name}} for name in ("mueller.csv", "meier.csv"))
    assert differing_setting(agreed, other) == "data.manifest is another path"


def test_figures_of_a_few_patients_are_not_put_forward(report: Report, audited: Path) -> None:
    few = msgspec.structs.replace(
        report.runs[0].utility,
        auc=1.0,
        auc_ci95=(0.28, 1.0),
        unsure=["auc", "sensitivity"],
        cautions=["3 held-out patients are too few."],
    )
    run = msgspec.structs.replace(report.runs[0], utility=few)
    html = drawn(msgspec.structs.replace(report, runs=[run]), audited)
    shown = '<dd class="unsure">not known <small>1; anywhere from 0.280 to 1</small></dd>'
    assert html.count(shown) == 2  # the first screen and the section
    assert "<dd>1 <small>" not in html
    assert html.count("3 held-out patients are too few.") == 2


def test_a_hospitals_auc_of_a_few_patients_is_not_put_forward(audited: Path) -> None:
    report = facts_of(audited, each_hospital=True)
    (run,) = report.runs
    few = msgspec.structs.replace(run.hospitals[0], auc=1.0, auc_ci95=(0.28, 1.0))
    hospitals = (few, *run.hospitals[1:])
    assert unsure_hospitals(hospitals) == [few.name]
    told = msgspec.structs.replace(run, hospitals=hospitals, unsure_hospitals=[few.name])
    html = drawn(msgspec.structs.replace(report, runs=[told]), audited)
    assert html.count("not known (1)") == 1
    assert "interval is wider than 0.3 is called not known" in html


def test_a_refusal_is_in_words_and_its_error_stays_in_the_json(html: str, report: Report) -> None:
    audit = report.runs[0].audit
    assert audit is not None
    assert audit.attempts[0].clear is not None
    assert audit.attempts[0].clear.detail == "RunError"
    assert "refused: the request does not fit this run" in html
    assert "RunError" not in html


def test_what_a_canary_tests_figures_mean_stands_beside_them(html: str) -> None:
    part = html[html.index("Epsilon measured from below") : html.index("Malicious server")]
    assert "At least 0.400 was lost, which is within the 2.200 claimed" in part
    assert "The test is blind to the claim: four times in five it sees a true epsilon of 3.100" in (
        part
    )


@pytest.mark.parametrize(
    ("effort", "more"),
    [
        ("quick", [["securefed", "audit", "run"]]),
        ("default", [["securefed", "audit", "run", "--thorough"]]),
        ("thorough", []),
    ],
)
def test_the_advice_after_an_audit_is_the_next_larger_effort(
    tmp_path: Path, effort: str, more: list[list[str]]
) -> None:
    folder = make_run(tmp_path / "run")
    audit = made_up_audit("INCONCLUSIVE") | {"effort": effort}
    add_audit(folder, audit)
    report = facts_of(folder)
    (risk,) = [risk for risk in report.risks if risk.title == "The audit could not decide"]
    assert [shlex.split(line) for line in risk.commands] == more
    found = [line for line in commands(drawn(report, folder)) if line[1] == "audit"]
    assert found == more


@pytest.mark.parametrize(
    ("remedy", "more"),
    [(EFFORT, ["securefed audit run"]), (MISSING, []), ("", ["securefed audit run"])],
)
def test_advice_on_what_is_open_is_the_audits_own_and_more_effort_only_where_it_helps(
    tmp_path: Path, remedy: str, more: list[str]
) -> None:
    folder = make_run(tmp_path / "run")
    audit = made_up_audit("INCONCLUSIVE")
    audit["judgements"] = [audit["judgements"][0] | {"remedy": remedy}]
    add_audit(folder, audit)
    report = facts_of(folder)
    (risk,) = [risk for risk in report.risks if "could not decide" in risk.title]
    assert risk.commands == more
    assert remedy in risk.change
    assert drawn(report, folder).count(f"To settle it: {remedy}") == bool(remedy)


def test_lines_without_a_figure_stand_together_where_they_lack_it_for_one_reason() -> None:
    def line(observer: str, method: str, reason: str, value: float | None = None) -> Judgement:
        return Judgement(
            attack="membership",
            observer=observer,
            method=method,
            metric="auc",
            verdict=None,
            reason=reason,
            value=value,
        )

    few, fewer = "36 distinct non-members", "12 distinct non-members"
    lines = [line("server", "lira", few), line("server", "rmia", few), line("peer", "lira", few)]
    first, second = unmeasured([*lines, line("peer", "loss", "fine", 0.5), line("o", "x", fewer)])
    assert (first.observers, first.titles) == (("server", "peer"), ("lira, auc", "rmia, auc"))
    assert second.reason == fewer


def test_made_up_patients_have_no_ledger_per_patient(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    about = json.loads((folder / "run.json").read_text())
    about["data"]["simulation"] = "phantom"
    (folder / "run.json").write_text(json.dumps(about))
    report = facts_of(folder)
    assert {ledger.unit for ledger in report.runs[0].ledgers} == {"made-up patient"}
    html = drawn(report, folder)
    assert not re.search(r"per patient(?! of a hospital|\.)", html.replace("per made-up", ""))


# Accessibility


class Cells(HTMLParser):
    """Of every table the names of its columns, and of every cell the name it says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.wrong: list[tuple[str, str | None]] = []
        self.count = 0
        self._columns: list[str] = []
        self._place = 0
        self._head = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "table":
            self._columns = []
        elif tag == "tr":
            self._place = 0
        elif tag == "th" and given.get("scope") == "col":
            self._columns.append("")
            self._head = True
        elif tag in ("th", "td"):
            wanted = self._columns[self._place]
            self._place += 1
            if tag == "td":
                self.count += 1
                if given.get("data-label") != wanted:
                    self.wrong.append((wanted, given.get("data-label")))

    def handle_endtag(self, tag: str) -> None:
        self._head = self._head and tag != "th"

    def handle_data(self, data: str) -> None:
        if self._head:
            self._columns[-1] += data


def test_every_cell_says_its_column_for_screens_where_rows_stand_as_lists(
    audited: Path, compared: Path
) -> None:
    for folder, report in (
        (audited, facts_of(audited, each_hospital=True)),
        (compared, facts_of(compared)),
    ):
        cells = Cells(drawn(report, folder))
        assert cells.count > 100
        assert cells.wrong == []


def test_every_table_header_has_a_scope_and_every_picture_a_text(html: str) -> None:
    tags = Tags(html)
    assert all(th.get("scope") in ("col", "row") for th in tags.all("th"))
    assert len(tags.all("img")) == 1
    assert all(image.get("alt") for image in tags.all("img"))
    charts = [svg for svg in tags.all("svg") if svg.get("role") == "img"]
    assert charts
    assert charts == tags.all("svg")
    assert all(svg.get("aria-label") for svg in charts)
    assert len(tags.all("table")) == len(tags.all("caption"))
    assert tags.all("html") == [{"lang": "en"}]


def test_the_first_link_skips_to_the_content(html: str) -> None:
    first = Tags(html).all("a")[0]
    assert first == {"class": "skip", "href": "#main"}


def test_headings_do_not_skip_a_level(html: str) -> None:
    levels = [int(tag[1]) for tag, _ in Tags(html).found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def themes(html: str) -> Iterator[dict[str, str]]:
    """Custom properties of the light and the dark theme."""
    for block in (":root {", ':root[data-theme="dark"] {'):
        start = html.index(block)
        found = re.findall(r"--([\w-]+): (#[0-9a-f]{6})", html[start : html.index("}", start)])
        yield dict(found)


def test_the_contrast_formula_agrees_with_the_standards_own_figures() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


def test_every_text_colour_has_aa_contrast_in_both_themes(html: str) -> None:
    light, dark = themes(html)
    assert light.keys() == dark.keys()
    for theme in (light, dark):
        for kind in ("pass", "fail", "inconclusive", "invalid", "none"):
            assert contrast(theme[kind], theme[f"{kind}-back"]) >= CONTRAST_AA, kind
            assert contrast(theme[kind], theme["card"]) >= CONTRAST_AA, kind
        for text in ("text", "muted", "accent"):
            for back in ("page", "card"):
                assert contrast(theme[text], theme[back]) >= CONTRAST_AA, (text, back)
        assert contrast(theme["accent"], theme["accent-text"]) >= CONTRAST_AA
        assert contrast(theme["tip"], theme["tip-text"]) >= CONTRAST_AA
        for graphic in ("line", "limit", "f0", "f1", "f2", "f3", "f4"):
            assert contrast(theme[graphic], theme["card"]) >= 3, graphic  # WCAG 1.4.11


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
