"""A report's page for tests, and its tags."""

from html.parser import HTMLParser
from pathlib import Path

from securefed.reporting.facts import Report
from securefed.reporting.page import page

KEY = "ab" * 32


def drawn(report: Report, folder: Path) -> str:
    return page(report, folder, fingerprint="cd" * 32, signer=KEY, opened=False)


class Tags(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]
