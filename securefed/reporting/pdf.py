"""The report page as PDF: through Chromium's own print where there is one, else WeasyPrint.

Chromium runs headless on a copy of the page in a folder of its own, with a fresh profile there and
without a network: the page needs none, and nothing of the user's browser is touched.
"""

import importlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from securefed.errors import ConfigurationError, RunError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT_S = 120
OFFLINE = (
    "--headless=new",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--proxy-server=127.0.0.1:9",  # nothing listens there: no request can leave
)


def find_browser() -> str | None:
    """Path of an installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def print_pdf(html: str) -> bytes:
    """A page as PDF.

    Args:
        html: a page with everything unfolded.

    Raises:
        ConfigurationError: neither a browser nor WeasyPrint is installed.
        RunError: the browser failed.
    """
    browser = find_browser()
    return _print_with_browser(browser, html) if browser else _print_with_weasyprint(html)


def _print_with_browser(browser: str, html: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="securefed-pdf-") as scratch:
        folder = Path(scratch)
        (folder / "report.html").write_text(html, encoding="utf-8")
        printout = folder / "report.pdf"
        # Chromium refuses its sandbox to root; the page is our own and runs one known script.
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()
        command = [
            browser,
            *OFFLINE,
            *root,
            f"--user-data-dir={folder / 'profile'}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={printout}",
            (folder / "report.html").as_uri(),
        ]
        try:
            process = subprocess.run(  # noqa: S603  # a fixed program with our own arguments
                command, capture_output=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RunError(
                f"{browser} could not print the page: {error}",
                hint="the HTML page is there; print it from a browser by hand",
            ) from None
        if not printout.is_file():
            raise RunError(
                f"{browser} printed nothing (exit code {process.returncode})",
                hint="the HTML page is there; print it from a browser by hand",
            )
        return printout.read_bytes()


def _print_with_weasyprint(html: str) -> bytes:
    try:
        # OSError: its wheel is there and the system's Pango library is not.
        weasyprint = importlib.import_module("weasyprint")
    except (ImportError, OSError):
        raise ConfigurationError(
            "--pdf needs Chromium, Chrome or WeasyPrint, and none is here",
            hint="install chromium, or: pip install 'securefed[pdf]'",
        ) from None
    # The page loads nothing from elsewhere; a file: or http: address in it would be a forgery.
    embedded = weasyprint.urls.URLFetcher(allowed_protocols=("data",), fail_on_errors=True)
    printed: bytes = weasyprint.HTML(string=html, url_fetcher=embedded).write_pdf()
    return printed
