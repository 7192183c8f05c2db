"""Writes who sees what into README.md and docs/threat-model.md, from the report page's sentences.

    python docs/generate_who_sees_what.py

`securefed.reporting.sights` is the one source, and `outside_epsilon` beside it that of the list of
what leaves without epsilon. Every other page links to these tables. A test compares both pages with
what this script would write, so they cannot drift from the report.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from securefed.config import load
from securefed.reporting.outside_epsilon import outside_epsilon
from securefed.reporting.sights import Scored, sights

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)

PLACEMENTS = {  # column of the table -> configuration, where the noise is added
    "`plain`": ("plain", None),
    "`dp`": ("dp", "local"),
    "`secure`": ("secure", None),
    "`dp+secure`": ("dp+secure", "local"),
    "shared noise": ("dp+secure", "distributed"),
}
DEFAULT = load(None, {})
SCORED = Scored("an epsilon of their own", "the larger one of that noise alone")

Row = tuple[str, str, str]  # observer, what it sees, what limits that
Row4 = tuple[str, str, str, str]  # what leaves, who has it, how exact, what makes it less


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
            scored=SCORED if epsilon and DEFAULT.privacy.evaluation_epsilon is not None else None,
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


def outside() -> str:
    """What leaves without epsilon in every configuration, equal rows joined."""
    joined: dict[Row4, list[str]] = {}
    for name, (configuration, placement) in PLACEMENTS.items():
        listed = outside_epsilon(
            configuration,
            declared=placement is not None,
            noised_scores=placement is not None,
            scorings=None,
            audited=True,
            baselines=True,
            each_hospital=True,
        )
        for each in listed:
            joined.setdefault((each.what, each.who, each.form, each.less), []).append(name)
    lines = [
        (what, "all" if len(names) == len(PLACEMENTS) else ", ".join(names), who, form, less)
        for (what, who, form, less), names in joined.items()
    ]
    head = ("what leaves", "configuration", "who has it", "how exact", "what makes it less")
    return _table(head, lines)


def _table(heading: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rule = tuple("---" for _ in heading)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heading, rule, *lines))


PAGES: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {"who sees what": of_the_default_run},
    ROOT / "docs" / "threat-model.md": {
        "who sees what": of_every_configuration,
        "outside epsilon": outside,
    },
}


def page(path: Path) -> str:
    """The text of one of PAGES, with its tables as the source has them now."""
    tables, text = PAGES[path], path.read_text()
    places = [name for _, name in BLOCK.findall(text)]
    if sorted(places) != sorted(tables):
        raise LookupError(f"{path.name} has places for {places}, and needs {list(tables)}")
    return BLOCK.sub(lambda found: found[1] + tables[found[2]](), text)


def main() -> None:
    """Write both pages."""
    for path in PAGES:
        path.write_text(page(path))
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
