"""A bound on epsilon is printed in one way wherever it stands: an upper one rounded up."""

import io
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from rich.console import Console, RenderableType

from securefed.cli.compare_tables import tables
from securefed.cli.run import _round_text, _table
from securefed.privacy.accounting import Guarantee, at_least, at_most
from securefed.record.audit import Judgement
from securefed.record.comparison import CompareFile
from securefed.reporting import charts, compared_figures, words
from securefed.reporting.compared import comparison_facts
from securefed.reporting.facts import Report
from securefed.reporting.page import page
from securefed.run_directory import Run
from securefed.verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]
SPENT, SHOWN, NEAREST = 7.9941, "7.995", "7.994"

# A number with a fixed count of digits after a word, or in a name, that says it is an epsilon:
# f"epsilon {value:.2f}", f"{spent:.3f}". Settings stand as they were given, with :g.
ROUNDED = re.compile(
    r"epsilon[^\n{}]*\{[^{}]*:\.\d+[feg]\}"
    r"|\{[^{}\n]*(epsilon|spent|certified|claimed)[^{}\n]*:\.\d+[feg]\}"
)
# Rooms that still do so; each line that goes from here is one place less.
ELSEWHERE = {"auditing/figures.py"}


def printed(things: Iterable[RenderableType]) -> str:
    screen = Console(file=io.StringIO(), width=140)
    for each in things:
        screen.print(each)
    return str(screen.file.getvalue())  # type: ignore[attr-defined]  # it is a StringIO


@pytest.mark.parametrize(
    "text", ['f"epsilon {x:.2f}"', 'f"{line.epsilon:.3f}"', 'f"{certified:.2f}"']
)
def test_the_pattern_finds_every_form(text: str) -> None:
    assert ROUNDED.search(text)


def test_nothing_in_the_product_formats_an_epsilon_by_itself() -> None:
    package = ROOT / "securefed"
    places = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        # Strings that stand one below the other are one.
        if ROUNDED.search(re.sub(r'"\n\s*f?"', "", path.read_text()))
    }
    assert places - ELSEWHERE == {"privacy/accounting.py"}


@pytest.mark.parametrize(
    ("epsilon", "above", "below"),
    [
        (SPENT, SHOWN, NEAREST),
        (7.994, "7.994", "7.994"),
        (7.9999, "8.000", "7.999"),
        (0.0, "0.000", "0.000"),
        (0.0001, "0.001", "0.000"),
        (float("inf"), "inf", "inf"),
        (None, "-", "-"),
    ],
)
def test_upper_bounds_are_rounded_up_and_lower_ones_down(
    epsilon: float | None, above: str, below: str
) -> None:
    assert (at_most(epsilon), at_least(epsilon)) == (above, below)


def test_a_guarantee_is_rounded_up() -> None:
    assert str(Guarantee(SPENT, 1e-5, "patient", "prv")).startswith(f"epsilon {SHOWN} at")


@pytest.fixture
def run(unaudited: Path) -> Run:
    """A run whose every epsilon is SPENT."""
    opened = Run.open(unaudited)
    spent = {
        "summary": msgspec.structs.replace(opened.summary, epsilon=SPENT),
        "guarantee": Guarantee(SPENT, 1e-5, "patient", "rdp"),
        "hospital_results": tuple(
            msgspec.structs.replace(each, epsilon=SPENT) for each in opened.hospital_results
        ),
    }
    vars(opened).update(spent)  # in the place of what would be read
    return opened


def test_the_terminal_of_a_run_rounds_up(run: Run) -> None:
    line = msgspec.structs.replace(run.metrics.rounds[0], epsilon=SPENT)
    text = _round_text(line) + printed([_table(run)])
    assert f"epsilon {SHOWN}" in text
    assert text.count(SHOWN) == 5  # the round, three hospitals, all of them
    assert NEAREST not in text


def test_a_notebook_rounds_up(run: Run) -> None:
    shown = run._repr_html_()
    assert shown.count(SHOWN) == 5
    assert NEAREST not in shown


def spending(compared: Path) -> CompareFile:
    file = CompareFile.read(compared)
    rows = tuple(msgspec.structs.replace(r, epsilon_spent=SPENT) for r in file.configurations)
    return msgspec.structs.replace(file, configurations=rows)


def test_a_comparison_rounds_up_on_the_terminal_and_on_the_page(compared: Path) -> None:
    file = spending(compared)
    facts = comparison_facts(file, ())
    page_cells = [cell for t in facts.tables for r in t.rows for cell in r.cells]
    drawn = "".join(drawing for drawing, _ in compared_figures.figures(facts))
    for text in (printed(tables(file)), " ".join(page_cells)):
        assert text.count(SHOWN) == 2
        assert NEAREST not in text
    assert SHOWN in drawn
    assert NEAREST not in drawn


def test_the_page_of_a_run_rounds_up(report: Report, audited: Path) -> None:
    run = report.runs[0]
    curve = tuple(msgspec.structs.replace(line, epsilon=SPENT) for line in run.curve)
    ledgers = [
        msgspec.structs.replace(each, epsilon_prv=SPENT, epsilon_rdp=SPENT) for each in run.ledgers
    ]
    privacy = msgspec.structs.replace(run.privacy, epsilon=SPENT)
    changed = msgspec.structs.replace(run, curve=curve, ledgers=ledgers, privacy=privacy)
    told = msgspec.structs.replace(report, runs=[changed])
    html = page(told, audited, fingerprint="0" * 64, signer="0" * 64, opened=False)
    assert html.count(SHOWN) > 8
    assert f">{NEAREST}" not in html
    assert SHOWN in "".join(chart for chart, _ in charts.training(curve, run.rounds, SPENT))


def test_a_certified_epsilon_is_rounded_down_and_the_claim_up() -> None:
    line = Judgement(
        attack="epsilon",
        observer="server",
        method="canaries",
        metric="epsilon",
        verdict=Verdict.PASS,
        reason="not contradicted",
        value=1.2346,
        interval=(1.2346, None),
        threshold=SPENT,
    )
    assert (words.figure(line), words.threshold(line)) == ("1.234", SHOWN)
    assert words.limits(line) == "at least 1.234"
