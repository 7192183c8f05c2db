"""The page of one explained patient: one HTML file with its pictures in it."""

from pathlib import Path

from markupsafe import Markup

from securefed.record.explanation import ExplanationFile
from securefed.reporting.page import content_security_policy, environment, picture_address


def explanation_page(about: ExplanationFile, folder: Path) -> str:
    """The HTML.

    Args:
        folder: where the pictures are.

    Raises:
        RunError: a picture cannot be read.
    """
    style = environment().get_template("style.css.j2").render()
    return (
        environment()
        .get_template("explanation.html.j2")
        .render(
            about=about,
            addresses=[picture_address(folder / each.file) for each in about.pictures],
            style=Markup(style),  # noqa: S704  # our own file
            policy=content_security_policy(style, ""),
        )
    )
