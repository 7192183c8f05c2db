"""The page for whoever hears it, cannot tell its colours apart, or has a narrow screen."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from tests.reporting.conftest import facts_of
from tests.reporting.drawn import Tags, drawn

CONTRAST_AA = 4.5


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
