"""The page of one explained patient: one HTML file with its pictures in it."""

from pathlib import Path

from securefed.record.explanation import ExplanationFile
from securefed.reporting.page import page_of_pictures


def explanation_page(about: ExplanationFile, folder: Path) -> str:
    """The HTML.

    Args:
        folder: where the pictures are.

    Raises:
        RunError: a picture cannot be read.
    """
    pictures = [folder / each.file for each in about.pictures]
    return page_of_pictures("explanation.html.j2", pictures, about=about)
