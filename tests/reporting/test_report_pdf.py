"""The PDF: through Chromium's print or WeasyPrint, with every section in its text."""

import io
import re
import sys
import unicodedata
from html import unescape
from pathlib import Path

import msgspec
import pypdf
import pytest

from securefed.errors import ConfigurationError, RunError
from securefed.reporting import pdf
from securefed.reporting.facts import Report
from securefed.reporting.page import page
from tests.reporting.conftest import facts_of

SECTIONS = ("Who can see what", "How good the model is", "Privacy ledger", "Attacks on this run")
FOLDED = ("Every setting as resolved", "SHA-256 of every file", "no line above speaks of")


@pytest.fixture(scope="module")
def html(report: Report, audited: Path) -> str:
    return page(report, audited, fingerprint="0" * 64, signer="0" * 64, opened=True)


def text_and_pages(printed: bytes) -> tuple[str, int]:
    reader = pypdf.PdfReader(io.BytesIO(printed))
    text = "\n".join(each.extract_text() for each in reader.pages)
    # Printers join f and i to one sign.
    return unicodedata.normalize("NFKC", text), len(reader.pages)


@pytest.mark.skipif(pdf.find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_chromium_prints_every_section_unfolded(html: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    text, pages = text_and_pages(pdf.print_pdf(html))
    assert 6 <= pages <= 20
    words = " ".join(text.split())
    for part in (*SECTIONS, *FOLDED, "delta 1e-05 per patient"):
        assert part in words
    assert "Dark theme" not in words


def pages_of(printed: bytes) -> list[list[str]]:
    """The lines of each page, its number left out."""
    pages = pypdf.PdfReader(io.BytesIO(printed)).pages
    texts = (unicodedata.normalize("NFKC", each.extract_text()) for each in pages)
    number = re.compile(r"\d+ / \d+")
    return [
        [line.strip() for line in text.splitlines() if line.strip() and not number.fullmatch(line)]
        for text in texts
    ]


@pytest.fixture(scope="module")
def long_run(report: Report) -> Report:
    """A run with so many rounds and judgements that their tables take several pages."""
    run = report.runs[0]
    assert run.audit is not None
    line = run.audit.judgements[0]
    lines = tuple(
        msgspec.structs.replace(line, method=f"variant {i}", decides=False) for i in range(150)
    )
    audit = msgspec.structs.replace(run.audit, judgements=lines)
    return msgspec.structs.replace(report, runs=[msgspec.structs.replace(run, audit=audit)])


@pytest.mark.skipif(pdf.find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_the_first_page_stands_alone_heads_are_repeated_and_no_heading_is_orphaned(
    long_run: Report, audited: Path
) -> None:
    html = page(long_run, audited, fingerprint="0" * 64, signer="ab" * 32, opened=True)
    first, *rest = pages_of(pdf.print_pdf(html))
    words = " ".join(first)
    for part in ("FAIL", "delta 1e-05 per patient", "What to change first", "sees sums only"):
        assert part in words
    for part in ("In words", "Area under the ROC curve", "This page is the summary", "abab" * 8):
        assert part in words.replace(" ab", "ab")
    assert "Who can see what" not in words  # the evidence begins on the second page
    table = [lines for lines in rest if any("variant" in line for line in lines)]
    assert len(table) > 1
    assert all("threshold" in " ".join(lines[:3]) for lines in table[1:])
    headings = {unescape(text) for text in re.findall(r"<h[2-4][^>]*>([^<]+)</h[2-4]>", html)}
    assert len(headings) > 20
    assert not {lines[-1] for lines in [first, *rest]} & headings


@pytest.mark.skipif(pdf.find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_a_comparison_is_printed_in_few_pages_with_its_summary_on_the_first(
    compared: Path,
) -> None:
    report = facts_of(compared)
    html = page(report, compared, fingerprint="0" * 64, signer="ab" * 32, opened=True)
    first, *rest = pages_of(pdf.print_pdf(html))
    words = " ".join(first)
    for part in ("Each configuration, over all its seeds", "dp+secure epsilon 8", "7.999"):
        assert part in words
    assert "This page is the summary" in words
    assert len(rest) < 10
    assert "Every run" in " ".join(line for lines in rest for line in lines)


def test_weasyprint_prints_every_section_where_there_is_no_browser(
    html: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"WeasyPrint is not usable here: {error}")
    monkeypatch.setattr(pdf, "BROWSERS", ())
    text, pages = text_and_pages(pdf.print_pdf(html))
    assert 4 <= pages <= 30
    words = " ".join(text.split())
    for part in SECTIONS:
        assert part in words


def test_without_browser_and_library_the_way_out_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pdf, "BROWSERS", ())
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(ConfigurationError, match="Chromium, Chrome or WeasyPrint") as refused:
        pdf.print_pdf("<p>page</p>")
    assert "securefed[pdf]" in str(refused.value.hint)


def test_a_browser_that_prints_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "find_browser", lambda: "/bin/false")
    with pytest.raises(RunError, match="printed nothing"):
        pdf.print_pdf("<p>page</p>")
