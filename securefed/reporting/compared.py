"""compare.json as the report shows it: a table a question, the notes, and what figures need."""

from collections.abc import Iterator, Mapping, Sequence

from securefed.privacy.accounting import at_most
from securefed.record.comparison import (
    BaselineRow,
    CompareFile,
    ConfigurationRow,
    DataEfficiency,
    StartingReport,
)
from securefed.reporting.charts import sensitivity_at
from securefed.reporting.compared_leaks import gravest_leaks, leaks_by_observer, leaks_of
from securefed.reporting.comparison_facts import (
    ComparedRow,
    ComparedTable,
    Comparison,
    RocCurve,
    Worth,
)
from securefed.reporting.facts import RunFacts
from securefed.reporting.rates import too_wide
from securefed.reporting.utility import cautions
from securefed.reporting.words import NOTHING, number, seconds, size, span
from securefed.verdict import Verdict

ALARMS = (0.05, 0.1, 0.2, 0.5)  # false alarm rates of the table beside the ROC curves


def run_titles(file: CompareFile) -> dict[str, str]:
    """Run directory -> what a page calls it: its row, with the seed where there are several."""
    return {
        folder: row.title + (f", seed {seed}" if len(row.seeds) > 1 else "")
        for row in file.configurations
        for folder, seed in zip(row.runs, row.seeds, strict=True)
    }


def comparison_facts(file: CompareFile, runs: Sequence[RunFacts]) -> Comparison:
    """The tables of a comparison, one without rows left out, and what its figures are drawn from.

    Args:
        runs: of its directory.
    """
    by_folder = {run.folder: run for run in runs}
    leaks, rocs = list(leaks_of(file, by_folder)), list(_rocs(file, by_folder))
    tables = [
        _performance(file.rows),
        _curves(rocs),
        _confusion(file.rows),
        _classes(file.rows),
        _cost(file.configurations),
        gravest_leaks(file.configurations),
        leaks_by_observer(leaks),
        _efficiency(file.data_efficiency),
    ]
    return Comparison(
        tables=[table for table in tables if table.rows],
        notes=list(dict.fromkeys(_notes(file))),
        interval_is="95% intervals over seeds: had the study been made again (Student's t)"
        if len(file.seeds) > 1
        else "95% intervals over patients: had others been held out, with these very models",
        worth=[_worth(row) for row in file.rows],
        rocs=rocs,
        leaks=leaks,
        starting_report=_starting(file.starting_report),
    )


def _notes(file: CompareFile) -> Iterator[str]:
    if not file.complete:
        yield "The comparison is not finished; rows are missing."
    yield from file.notes  # why there are no baselines among them
    for baseline in file.baselines:
        yield f"{baseline.name}: {baseline.remark}"
    yield from row_cautions(file)


def row_cautions(file: CompareFile) -> list[str]:
    """What the figures of rows must be read with, once for all rows that share it."""
    said: dict[str, list[str]] = {}
    for row in file.rows:
        auc = row.headline
        over_patients = auc.ci95_patients if len(row.seeds) > 1 else _interval(row)
        for caution in cautions(auc.value, over_patients, row.confusion, noised=False):
            said.setdefault(caution, []).append(row.title)
        if auc.ci95_seeds and too_wide(auc.ci95_seeds):
            told = f"{len(row.seeds)} seeds are too few to say what another study would give."
            said.setdefault(told, []).append(row.title)
    return [f"{', '.join(titles)}: {caution}" for caution, titles in said.items()]


def _interval(row: ConfigurationRow | BaselineRow) -> tuple[float, float] | None:
    """Of the row's AUC: over seeds; of one seed Newcombe's, or the bootstrap's over patients."""
    if len(row.seeds) > 1:
        return row.headline.ci95_seeds
    return row.auc_newcombe_ci95[0] or row.headline.ci95_patients


def _worth(row: ConfigurationRow | BaselineRow) -> Worth:
    return Worth(
        row=row.title,
        kind=row.configuration if isinstance(row, ConfigurationRow) else row.privacy,
        baseline=isinstance(row, BaselineRow),
        verdict=_verdict(row),
        epsilon=row.epsilon_spent,
        auc=row.headline.value,
        interval=_interval(row),
    )


def _verdict(row: ConfigurationRow | BaselineRow) -> Verdict | None:
    return row.leakage.verdict if isinstance(row, ConfigurationRow) and row.leakage else None


def _rocs(file: CompareFile, runs: Mapping[str, RunFacts]) -> Iterator[RocCurve]:
    for row in file.configurations:
        for folder, seed in zip(row.runs, row.seeds, strict=True):
            curve = runs[folder].utility.roc if folder in runs else None
            if curve:
                yield RocCurve(row=row.title, kind=row.configuration, seed=seed, roc=curve)


def _performance(rows: Sequence[ConfigurationRow | BaselineRow]) -> ComparedTable:
    compared = []
    for row in rows:
        figures, headline = row.figures, row.headline
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
        note="The configurations of the federation stand first, then what they are compared with; "
        "all were trained and scored here, within a seed on the same patients.",
    )


def _curves(rocs: Sequence[RocCurve]) -> ComparedTable:
    several = len({curve.seed for curve in rocs}) > 1
    return ComparedTable(
        title="ROC curves: share of ill patients found at a rate of false alarms",
        columns=[f"at {rate:g}" for rate in ALARMS],
        rows=[
            ComparedRow(
                name=curve.row + (f", seed {curve.seed}" if several else ""),
                cells=[number(sensitivity_at(curve.roc, rate)) for rate in ALARMS],
            )
            for curve in rocs
        ],
    )


def _confusion(rows: Sequence[ConfigurationRow | BaselineRow]) -> ComparedTable:
    compared = []
    for row in rows:
        said = row.confusion
        if said is None:
            continue
        counts = (said.true_positive, said.false_negative, said.false_positive, said.true_negative)
        compared.append(ComparedRow(name=row.title, cells=[number(count, 1) for count in counts]))
    return ComparedTable(
        title="Confusion matrices: held-out patients, all seeds together",
        columns=["found", "missed", "false alarms", "rightly none"],
        rows=compared,
    )


def _classes(rows: Sequence[ConfigurationRow | BaselineRow]) -> ComparedTable:
    names = [one.name for one in rows[0].classes] if rows else []
    return ComparedTable(
        title="Each class against the rest, and what its held-out patients were called",
        columns=["AUC", "95% over patients", "95% over seeds", *(f"called {n}" for n in names)],
        rows=[
            ComparedRow(
                name=f"{row.title}: {one.name}",
                cells=[
                    number(one.auc.value),
                    span(one.auc.ci95_patients),
                    span(one.auc.ci95_seeds),
                    *(number(count, 1) for count in one.called),
                ],
            )
            for row in rows
            for one in row.classes
        ],
        note="AUCs are means over seeds, counts all seeds together.",
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
        title="Printed in the report that this project started from",
        columns=["AUC", "accuracy"],
        rows=[
            ComparedRow(name=row.name, cells=[number(row.auc), number(row.accuracy)])
            for row in part.rows
        ],
        note="No row of this table was trained or measured here. It is the table of an earlier "
        f"report, for its readers: {part.hospitals} hospitals, {part.pairs:,} pairs of CT and MRI "
        f"slices of {part.image_size} pixels, {part.rounds} rounds, {part.optimizer}; {part.note}. "
        "The rows have that report's own names.",
    )
