"""One line of what to change, with the commands that do it."""

from collections.abc import Iterable

from securefed.reporting.facts import Risk, RunFacts


def risk(
    run: RunFacts,
    grave: int,
    title: str,
    why: str,
    change: str,
    evidence: str,
    commands: Iterable[str] = (),
) -> Risk:
    """A risk of a run; `grave`, `evidence` and `commands` as in `Risk`."""
    return Risk(
        runs=[run.title],
        title=title,
        why=why,
        change=change,
        commands=list(commands),
        evidence=evidence,
        grave=grave,
    )
