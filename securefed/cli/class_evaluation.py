"""What `securefed evaluate` shows of a model of several classes."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from securefed.cli.screen import screen
from securefed.record.class_evaluation import ClassEvaluationFile
from securefed.record.evaluation import Interval, Rate


def show(found: ClassEvaluationFile) -> None:
    """Print a line for each class, the means, and who was called what."""
    console = screen(stderr=False)
    console.print(f"{found.patients} patients; each class against the rest, 95% intervals")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", "patients", "AUC", "sensitivity", "specificity"):
        table.add_column(column, justify="right" if column == "patients" else "left")
    for one in found.classes:
        rates = _rate(one.sensitivity), _rate(one.specificity)
        table.add_row(one.name, str(one.patients), _told(one.auc, one.auc_ci95), *rates)
    console.print(table)
    console.print(f"mean AUC {_told(found.auc, found.auc_ci95)}, accuracy {_rate(found.accuracy)}")
    matrix = Table(box=SIMPLE_HEAD, pad_edge=False, title="true class, by the one that is called")
    matrix.add_column("")
    for one in found.classes:
        matrix.add_column(one.name, justify="right")
    for one in found.classes:
        matrix.add_row(one.name, *(f"{cell:g}" for cell in one.called))
    console.print(matrix)


def _told(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return "not known"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _rate(rate: Rate) -> str:
    return _told(rate.value, rate.ci95)
