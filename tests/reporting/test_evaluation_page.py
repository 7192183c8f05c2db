"""The page of an evaluation: what it says, for whom, and that it asks for nothing."""

import re
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from securefed.prediction.evaluate import Labelled, groups
from securefed.record.evaluation import EvaluationFile
from securefed.reporting.evaluation_page import evaluation_page
from securefed.reporting.pdf import find_browser
from tests.reporting.drawn import Tags
from tests.reporting.test_report_accessibility import Cells

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def found() -> EvaluationFile:
    """Of two sites of a hundred patients, and a third of four."""
    random = np.random.default_rng(2)
    patients = 204
    positive = random.random(patients) < 0.5
    logits = 2.5 * positive - 1 + random.normal(size=patients)
    sites = np.repeat(["north", HOSTILE, "few"], [100, 100, 4])
    of = Labelled(
        probability=1 / (1 + np.exp(-logits)),
        positive=positive,
        patient=np.arange(patients),
        weight=np.ones(patients),
        columns={"site": tuple(sites.tolist())},
    )
    return EvaluationFile(
        model="a" * 64,
        data="b" * 16,
        privacy="no differential privacy: no epsilon",
        cautions=("it was trained on made-up patients (phantom)",),
        trained=3,
        trained_told="by identifier, from the ledger",
        unlike=5,
        groups=tuple(groups(of)),
        problems=0,
    )


@pytest.fixture(scope="module")
def html(found: EvaluationFile) -> str:
    return evaluation_page(found)


def test_it_says_what_the_json_says_and_what_it_must_not_be_taken_for(
    found: EvaluationFile, html: str
) -> None:
    auc = found.everybody.auc
    assert f"<dd>{auc:.3f} <small>" in html
    assert "Not for use on patients: it was trained on made-up patients" in html
    assert "Too good: 3 patients of these trained the model" in html
    assert "5 patients of these have scans unlike those of the training" in html
    assert "No epsilon covers these figures" in html
    assert html.count("few: withheld") == 2  # the small site, and the smaller of the others
    assert HOSTILE not in html


def test_figures_of_few_patients_are_not_put_forward(found: EvaluationFile) -> None:
    of = Labelled(
        probability=np.linspace(0.1, 0.9, 12),
        positive=np.arange(12) % 2 == 0,
        patient=np.arange(12),
        weight=np.ones(12),
        columns={},
    )
    few = msgspec.structs.replace(found, groups=tuple(groups(of)), trained=None, cautions=())
    html = evaluation_page(few)
    assert "not known <small>" in html
    assert "too few to say how good the model is" in html
    assert "Too good" not in html


def test_it_is_for_everybody(html: str) -> None:
    tags = Tags(html)
    cells = Cells(html)
    assert cells.count > 20
    assert cells.wrong == []
    assert all(th.get("scope") in ("col", "row") for th in tags.all("th"))
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in tags.all("svg"))
    assert len(tags.all("table")) == len(tags.all("caption"))
    levels = [int(tag[1]) for tag, _ in tags.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert tags.all("a")[0] == {"class": "skip", "href": "#main"}


def test_no_line_of_a_chart_leaves_its_frame(html: str) -> None:
    for box, body in re.findall(r'<svg class="chart[^"]*" viewBox="0 0 ([^"]+)"(.*?)</svg>', html):
        width, height = map(float, box.split())
        for points in re.findall(r'points="([^"]+)"', body):
            for point in points.split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= width
                assert 0 <= y <= height


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_a_browser_opens_it_without_a_message_or_a_request(html: str, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    place = tmp_path / "evaluation.html"
    place.write_text(html, encoding="utf-8")
    logged, asked = [], []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.on("console", lambda message: logged.append(message.text))
        page.on("pageerror", lambda error: logged.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(place.as_uri())
        page.click("#theme")
        page.click("#groups thead th:nth-child(4) button")
        first = page.eval_on_selector_all(
            "#groups > .table tbody tr", "rows => rows.map(row => row.cells[3].dataset.v)"
        )
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        for width in (1200, 700, 360):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert logged == []
    assert asked == [place.as_uri()]
    assert first == [*sorted(first[:2]), "", ""]  # withheld groups go last
