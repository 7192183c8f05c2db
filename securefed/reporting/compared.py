"""compare.json as the report shows it: a table a question, and the notes."""

from collections.abc import Sequence

from securefed.exposure import OBSERVERS
from securefed.privacy.accounting import at_most
from securefed.record.comparison import (
    BaselineRow,
    CompareFile,
    ConfigurationRow,
    DataEfficiency,
    Leak,
    StartingReport,
)
from securefed.reporting.facts import ComparedRow, ComparedTable, Comparison
from securefed.reporting.words import NOTHING, figure, number, seconds, size, span
from securefed.verdict import gravity


def comparison_facts(file: CompareFile) -> Comparison:
    """The tables of a comparison; one without rows is left out."""
    notes = list(file.notes)
    if not file.complete:
        notes.insert(0, "The comparison is not finished; rows are missing.")
    if file.baselines_refused:
        notes.append(file.baselines_refused)
    notes += [f"{row.name}: {row.remark}" for row in file.baselines]
    tables = [
        _performance(file.rows),
        _confusion(file.rows),
        _cost(file.configurations),
        _leakage(file.configurations),
        _efficiency(file.data_efficiency),
        _starting(file.starting_report),
    ]
    present = [table for table in tables if table.rows]
    return Comparison(tables=present, notes=list(dict.fromkeys(notes)))


def _performance(rows: Sequence[ConfigurationRow | BaselineRow]) -> ComparedTable:
    compared = []
    for row in rows:
        figures = row.figures
        headline = figures.auc if row.auc_is == "auc" else figures.mean_auc
        others = (figures.accuracy, figures.precision, figures.recall, figures.f1)
        cells = [
            number(headline.value),
            span(headline.ci95_patients),
            span(headline.ci95_seeds),
            *(number(figure.value) for figure in others),
            number(row.convergence_round),
        ]
        compared.append(ComparedRow(name=row.title, cells=cells))
    return ComparedTable(
        title="What the models are worth: means over seeds, held-out patients",
        columns=[
            "AUC",
            "95% over patients",
            "95% over seeds",
            "accuracy",
            "precision",
            "recall",
            "F1",
            "converged at round",
        ],
        rows=compared,
    )


def _confusion(rows: Sequence[ConfigurationRow | BaselineRow]) -> ComparedTable:
    compared = []
    for row in rows:
        said = row.confusion
        counts = (said.true_positive, said.false_negative, said.false_positive, said.true_negative)
        compared.append(ComparedRow(name=row.title, cells=[str(count) for count in counts]))
    return ComparedTable(
        title="Confusion matrices: held-out patients, all seeds together",
        columns=["found", "missed", "false alarms", "rightly none"],
        rows=compared,
    )


def _cost(rows: Sequence[ConfigurationRow]) -> ComparedTable:
    compared = []
    for row in rows:
        ways = (row.cost.bytes_up_per_client_round, row.cost.bytes_down_per_client_round)
        cells = [
            _spent(row),
            *(NOTHING if count is None else size(count) for count in ways),
            seconds(row.cost.client_seconds_per_round),
            seconds(row.cost.aggregate_seconds_per_round),
        ]
        compared.append(ComparedRow(name=row.title, cells=cells))
    return ComparedTable(
        title="What they cost: epsilon of the whole run, the rest per hospital and round",
        columns=["epsilon spent", "bytes up", "bytes down", "hospital seconds", "server seconds"],
        rows=compared,
    )


def _spent(row: ConfigurationRow) -> str:
    if row.noise == "seeded":
        return "none: seeded noise"
    return NOTHING if row.epsilon_spent is None else at_most(row.epsilon_spent)


def _leakage(rows: Sequence[ConfigurationRow]) -> ComparedTable:
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
    """Of one observer: the attack that went furthest, by verdict and then by figure."""
    judged = [leak for leak in leaks.values() if leak.verdict and leak.value is not None]
    if not judged:
        return NOTHING
    worst = max(judged, key=lambda leak: (gravity(leak.verdict), leak.value))
    return f"{worst.attack} {figure(worst)}: {worst.verdict}"


def _efficiency(part: DataEfficiency | None) -> ComparedTable:
    least = part.smallest_tried_share_that_reaches_it if part else None
    compared = []
    for each in part.shares if part else ():
        auc = each.figures.auc
        cells = [number(auc.value), span(auc.ci95_patients), "yes" if each.share == least else ""]
        compared.append(ComparedRow(name=f"{each.share:.0%}", cells=cells))
    return ComparedTable(
        title="Trained on a share of each hospital's patients, without DP",
        columns=["AUC", "95% over patients", "least tried that reaches 95% of the AUC with all"],
        rows=compared,
    )


def _starting(part: StartingReport) -> ComparedTable:
    return ComparedTable(
        title=f"The starting report ({part.note})",
        columns=["AUC", "accuracy"],
        rows=[
            ComparedRow(name=row.name, cells=[number(row.auc), number(row.accuracy)])
            for row in part.rows
        ],
    )
