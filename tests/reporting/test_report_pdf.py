"""The PDF: through Chromium's print or WeasyPrint, with every section in its text."""

import io
import sys
import unicodedata
from pathlib import Path

import pypdf
import pytest

from securefed.errors import ConfigurationError, RunError
from securefed.reporting import pdf
from securefed.reporting.facts import Report
from securefed.reporting.page import page

SECTIONS = ("Who can see what", "How good the model is", "Privacy ledger", "Attacks on this run")
FOLDED = ("Every setting as resolved", "SHA-256 of every file", "Every figure of every attack")


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
