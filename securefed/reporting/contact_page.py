"""A page of contact sheets: one HTML file with every picture in it, for eyes at the hospital."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from securefed.reporting.page import page_of_pictures


class Shown(msgspec.Struct, frozen=True):
    """One patient's sheet.

    Attributes:
        label: 0 or 1, or the name of a class.
        picture: file name of the PNG, beside the page.
        slices: how many the patient has; the sheet shows some.
        acquired: modality -> how many slices have it.
    """

    patient: str
    site: str
    label: int | str
    picture: str
    slices: int
    acquired: dict[str, int]


def contact_page(
    title: str, shown: Sequence[Shown], patients: int, doubts: Sequence[str], folder: Path
) -> str:
    """The HTML.

    Args:
        patients: of the data set, shown or not.
        doubts: pairs that no registration vouches for, by patient.
        folder: where the pictures are.

    Raises:
        RunError: a picture cannot be read.
    """
    return page_of_pictures(
        "contact.html.j2",
        [folder / each.picture for each in shown],
        title=title,
        shown=shown,
        patients=patients,
        doubts=doubts,
    )
