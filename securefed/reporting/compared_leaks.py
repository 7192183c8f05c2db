"""What a comparison's audits found, by observer: for a figure, and as tables.

compare.json has of each observer and attack the gravest judgement, of whatever metric. Figures of
several rows can be held against each other only if they are of one metric, so those are taken from
the runs' own audits here.
"""

from collections.abc import Iterator, Mapping, Sequence

from securefed.exposure import OBSERVERS
from securefed.record.audit import Judgement
from securefed.record.comparison import CompareFile, ConfigurationRow, Leak
from securefed.reporting.comparison_facts import ComparedRow, ComparedTable, Leaked
from securefed.reporting.facts import RunFacts
from securefed.reporting.words import NOTHING, figure, number, span
from securefed.verdict import gravity

# What an observer gets out of the messages; what is claimed of a run is tested beside that.
LEAKS = (("membership", "auc"), ("inversion", "identification"), ("head leakage", "identification"))


def leaks_of(file: CompareFile, runs: Mapping[str, RunFacts]) -> Iterator[Leaked]:
    """The gravest figure of each metric that each observer reached, row by row."""
    for row in file.configurations:
        audits = [runs[folder].audit for folder in row.runs if folder in runs]
        lines = [line for audit in audits if audit for line in audit.judgements]
        for attack, metric in LEAKS:
            for observer in OBSERVERS:
                of_it = [
                    line
                    for line in lines
                    if (line.attack, line.metric, line.observer) == (attack, metric, observer)
                    and line.scene == "as configured"
                    and line.decides
                ]
                if of_it:
                    yield _leaked(row.title, max(of_it, key=_weight))


def _weight(line: Judgement) -> tuple[bool, int, float]:
    # A figure says more than the want of one in another seed.
    return line.value is not None, gravity(line.verdict), line.share_of_threshold


def _leaked(row: str, line: Judgement) -> Leaked:
    return Leaked(
        row=row,
        attack=line.attack,
        metric=line.metric,
        observer=line.observer or "any",
        value=line.value,
        interval=line.interval,
        threshold=line.threshold,
        verdict=line.verdict,
        reason=line.reason,
    )


def gravest_leaks(rows: Sequence[ConfigurationRow]) -> ComparedTable:
    """One line a row: its verdict, and of each observer the attack that went furthest."""
    compared = [
        ComparedRow(
            name=row.title,
            cells=[
                row.leakage.verdict or NOTHING,
                *(_gravest(row.leakage.observers.get(observer, {})) for observer in OBSERVERS),
            ],
        )
        for row in rows
        if row.leakage
    ]
    return ComparedTable(
        title="What leaks: the verdict, and the gravest figure that each observer reached",
        columns=["verdict", *OBSERVERS],
        rows=compared,
    )


def _gravest(leaks: dict[str, Leak]) -> str:
    """Of one observer: the attack that went furthest, by verdict and then towards its threshold."""
    judged = [
        leak
        for leak in leaks.values()
        if leak.verdict and leak.value is not None and not leak.of_claim
    ]
    if not judged:
        return NOTHING
    worst = max(judged, key=lambda leak: (gravity(leak.verdict), leak.share_of_threshold))
    return f"{worst.attack} {figure(worst)}: {worst.verdict}"


def leaks_by_observer(leaks: Sequence[Leaked]) -> ComparedTable:
    """One line a row and observer, with each figure."""
    kinds = list(dict.fromkeys((leak.attack, leak.metric) for leak in leaks))
    cells = {(leak.row, leak.observer, leak.attack, leak.metric): leak for leak in leaks}
    places = dict.fromkeys((leak.row, leak.observer) for leak in leaks)
    return ComparedTable(
        title="What each observer found, figure by figure: the gravest over all seeds",
        columns=[f"{attack}: {metric}" for attack, metric in kinds],
        rows=[
            ComparedRow(
                name=f"{row}: {observer}",
                cells=[_found(cells.get((row, observer, *kind))) for kind in kinds],
            )
            for row, observer in places
        ],
        note="Figure, interval, and the most that the policy allows. Attacks on the claim itself "
        "stand with each run.",
    )


def _found(leak: Leaked | None) -> str:
    if leak is None:
        return NOTHING
    if leak.value is None:
        return f"{leak.verdict or 'not judged'}: {leak.reason}"
    most = "" if leak.threshold is None else f", at most {number(leak.threshold)}"
    return f"{number(leak.value)} ({span(leak.interval)}){most}: {leak.verdict or 'not judged'}"
