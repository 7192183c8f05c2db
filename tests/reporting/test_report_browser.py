"""The page in a real browser: headless Chromium through Playwright, as a reader would open it.

Skipped where either is missing: `pip install playwright`, and Debian's package `chromium`.
"""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from securefed.cli.data import command as data_command
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.reporting.facts import Report
from securefed.reporting.page import page
from securefed.reporting.pdf import find_browser
from tests.reporting.conftest import facts_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = find_browser()
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")


BLANK = 'cell => { cell.dataset.v = ""; cell.textContent = "–"; }'


@pytest.fixture(scope="module")
def address(report: Report, audited: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    html = page(report, audited, fingerprint="0" * 64, signer="0" * 64, opened=False)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # Chromium refuses its sandbox to root, as whom containers run tests.
        running = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield running
        running.close()


class Opened:
    """A page with everything it logged and asked for."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1200, "height": 900}, **context)
        self.page = self.context.new_page()
        self.logged: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.logged.append(message.text))
        self.page.on("pageerror", lambda error: self.logged.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Opened]:
    each = Opened(browser, address, color_scheme="light")
    yield each
    each.context.close()


def column(opened: Opened, table: str, index: int) -> list[str]:
    cells: list[str] = opened.page.eval_on_selector_all(
        f"{table} tbody tr", f"rows => rows.map(row => row.cells[{index}].textContent.trim())"
    )
    return cells


def test_the_page_opens_without_a_message_or_a_request(opened: Opened, address: str) -> None:
    assert opened.page.title().startswith("SecureFed report")
    opened.page.click("#theme")
    opened.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert opened.logged == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [address]


def test_the_browser_enforces_the_policy_against_what_escaping_might_miss(opened: Opened) -> None:
    opened.page.evaluate(
        """() => {
            const image = document.createElement("img");
            image.src = "https://example.invalid/spy.png";
            document.body.appendChild(image);
            const script = document.createElement("script");
            script.textContent = "window.injected = true";
            document.body.appendChild(script);
        }"""
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.injected") is None
    assert any("Content Security Policy" in text for text in opened.logged)
    # A blocked address may be announced, but nothing of it was fetched.
    assert opened.page.evaluate("document.images[document.images.length - 1].naturalWidth") == 0


def test_a_table_sorts_by_number_in_both_directions_from_the_keyboard(opened: Opened) -> None:
    table = "#egress table"
    opened.page.focus(f"{table} thead th:nth-child(2) button")
    opened.page.keyboard.press("Enter")
    stages = column(opened, table, 1)
    assert stages == sorted(stages)
    assert stages[0] != stages[-1]
    opened.page.keyboard.press("Enter")
    assert column(opened, table, 1) == stages[::-1]
    header = opened.page.locator(f"{table} thead th:nth-child(2)")
    assert header.get_attribute("aria-sort") == "descending"


def test_numbers_sort_as_numbers_and_missing_ones_go_last(opened: Opened) -> None:
    table = "#training details table"
    opened.page.click("#training details summary")
    opened.page.eval_on_selector(f"{table} tbody tr:first-child td:nth-child(4)", BLANK)
    loss = f"{table} thead th:nth-child(4) button"
    opened.page.click(loss)
    assert column(opened, table, 3) == ["0.350", "–"]
    opened.page.click(loss)
    assert column(opened, table, 3) == ["0.350", "–"]


def test_every_picture_shows(opened: Opened) -> None:
    widths = opened.page.eval_on_selector_all(
        ".pictures img", "images => images.map(image => image.naturalWidth)"
    )
    # The curve alone: these are no phantoms, and their scans stay in the run directory.
    assert widths == [40]


def background(opened: Opened) -> str:
    colour: str = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return colour


def test_the_page_follows_the_systems_theme_and_the_switch_overrules_it(
    browser: Any, address: str, opened: Opened
) -> None:
    light = background(opened)
    dark_system = Opened(browser, address, color_scheme="dark")
    dark = background(dark_system)
    assert (light, dark) == ("rgb(245, 247, 249)", "rgb(16, 21, 27)")
    opened.page.click("#theme")
    dark_system.page.click("#theme")
    assert (background(opened), background(dark_system)) == (dark, light)
    dark_system.context.close()


def test_print_is_light_in_both_themes_and_unfolds_everything(browser: Any, address: str) -> None:
    dark = Opened(browser, address, color_scheme="dark")
    dark.page.emulate_media(media="print")
    assert background(dark) == "rgb(255, 255, 255)"
    colour = dark.page.evaluate("getComputedStyle(document.body).color")
    assert colour == "rgb(23, 32, 42)"
    assert not dark.page.is_visible("nav.contents")
    assert dark.page.pdf().startswith(b"%PDF")  # fires beforeprint
    assert dark.page.eval_on_selector_all("details:not([open])", "found => found.length") == 0
    dark.context.close()


@pytest.mark.parametrize("width", [1200, 700, 360])
def test_the_page_never_scrolls_sideways(opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_of_a_table_is_out_of_sight(browser: Any, compared: Path, width: int) -> None:
    """Of a run and of a comparison, with everything unfolded."""
    report = facts_of(compared)
    html = page(report, compared, fingerprint="0" * 64, signer="0" * 64, opened=False)
    (compared / "report.html").write_text(html, encoding="utf-8")
    each = Opened(browser, (compared / "report.html").as_uri(), color_scheme="light")
    each.page.set_viewport_size({"width": width, "height": 800})
    each.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    beyond = """width => [...document.querySelectorAll("td, th, .table svg, figure svg text")]
        .filter(each => each.getBoundingClientRect().right > width + 1)
        .map(each => each.textContent.trim().slice(0, 40))"""
    assert each.page.evaluate(beyond, width) == []
    assert each.page.locator("td[data-label='what limits it']").first.is_visible()
    small = """[...document.querySelectorAll("figure svg text")]
        .filter(each => each.getBoundingClientRect().height < 9).length"""
    assert each.page.evaluate(small) == 0
    (compared / "report.html").unlink()
    each.context.close()


def test_a_term_explains_itself_on_focus_and_escape_shuts_it(opened: Opened) -> None:
    term = opened.page.locator("#verdicts .term").first
    tip = term.locator('[role="tooltip"]')
    assert not tip.is_visible()
    term.focus()
    assert tip.is_visible()
    box = tip.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1200
    opened.page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_the_skip_link_is_the_first_stop_of_the_keyboard(opened: Opened) -> None:
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.className") == "skip"
    assert opened.page.locator(".skip").is_visible()


def test_without_script_everything_is_readable(browser: Any, address: str) -> None:
    plain = Opened(browser, address, java_script_enabled=False)
    assert plain.page.is_visible("text=What to change first")
    assert not plain.page.is_visible("#theme")
    assert plain.page.locator("#audit .badge").first.is_visible()
    plain.context.close()


def test_both_themes_draw_the_charts_in_their_own_colours(browser: Any, address: str) -> None:
    shots = []
    for scheme in ("light", "dark"):
        each = Opened(browser, address, color_scheme=scheme)
        stroke = each.page.evaluate("getComputedStyle(document.querySelector('.line')).stroke")
        shots.append((stroke, each.page.locator("svg.chart").first.screenshot()))
        each.context.close()
    assert shots[0][0] != shots[1][0]
    assert all(re.fullmatch(r"rgb\(\d+, \d+, \d+\)", stroke) for stroke, _ in shots)
    assert base64.b64encode(shots[0][1]) != base64.b64encode(shots[1][1])


def test_contact_sheets_fit_the_window_and_ask_for_nothing(browser: Any, tmp_path: Path) -> None:
    out = tmp_path / "look"
    write_phantoms(tmp_path / "patients", PhantomSpec(image_size=24), 1, 2, seed=1)
    words = ["show", str(tmp_path / "patients"), "--out", str(out)]
    assert CliRunner().invoke(data_command, words).exit_code == 0
    page = Opened(browser, (out / "index.html").as_uri())
    widths = page.page.evaluate(
        "[...document.images].map(each => [each.naturalWidth > 0, each.clientWidth])"
    )
    assert [there for there, _ in widths] == [True, True]
    assert all(width < 1200 for _, width in widths)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 1200
    assert page.logged == []
    assert [url for url in page.asked if not url.startswith("data:")] == [
        (out / "index.html").as_uri()
    ]
    page.context.close()
