"""Writes who sees what into README.md and docs/threat-model.md, from the report page's sentences.

    python docs/generate_who_sees_what.py

`securefed.reporting.sights` is the one source. Every other page links to these tables. A test
compares both pages with what this script would write, so they cannot drift from the report.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from securefed.config import load
from securefed.reporting.sights import sights

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- generated: who sees what -->", "<!-- end -->"
BLOCK = re.compile(rf"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)

PLACEMENTS = {  # column of the table -> configuration, where the noise is added
    "`plain`": ("plain", None),
    "`dp`": ("dp", "local"),
    "`secure`": ("secure", None),
    "`dp+secure`": ("dp+secure", "local"),
    "shared noise": ("dp+secure", "distributed"),
}
DEFAULT = load(None, {})

Row = tuple[str, str, str]  # observer, what it sees, what limits that


def rows(configuration: str, placement: str | None) -> list[Row]:
    """The observers of a run with the default number of hospitals, and a peer among two."""
    epsilon = "epsilon" if "dp" in configuration else ""

    def among(hospitals: int) -> list[Row]:
        colluding = DEFAULT.privacy.colluding
        seen = sights(
            configuration,
            hospitals,
            placement,
            colluding,
            epsilon,
            declared=bool(epsilon) and DEFAULT.privacy.patients_epsilon is not None,
        )
        return [(each.observer, each.sees, each.bound) for each in seen]

    server, peer, *others = among(DEFAULT.federation.clients)
    _, (_, sees, bound), *_ = among(2)
    return [server, peer, ("peer, of two hospitals", sees, bound), *others]


def of_the_default_run() -> str:
    """The table for the default configuration."""
    chosen = rows(DEFAULT.configuration, DEFAULT.privacy.placement)
    return _table(("observer", "sees in the default run", "what limits it"), chosen)


def of_every_configuration() -> str:
    """The table for the four configurations and for shared noise, equal rows joined."""
    by_configuration = {name: rows(*chosen) for name, chosen in PLACEMENTS.items()}
    joined: dict[Row, list[str]] = {}
    for of_one_observer in zip(*by_configuration.values(), strict=True):
        for name, row in zip(by_configuration, of_one_observer, strict=True):
            joined.setdefault(row, []).append(name)
    lines = [(who, ", ".join(names), sees, bound) for (who, sees, bound), names in joined.items()]
    return _table(("observer", "configuration", "sees", "what limits it"), lines)


def _table(heading: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rule = tuple("---" for _ in heading)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heading, rule, *lines))


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "README.md": of_the_default_run,
    ROOT / "docs" / "threat-model.md": of_every_configuration,
}


def page(path: Path) -> str:
    """The text of one of PAGES, with its table as the source has it now."""
    text, count = BLOCK.subn(lambda _: PAGES[path](), path.read_text())
    if count != 1:
        raise LookupError(f"{path.name} has {count} places for the table, and needs one")
    return text


def main() -> None:
    """Write both pages."""
    for path in PAGES:
        path.write_text(page(path))
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
