"""progress.svg: AUC and loss of the global model, and epsilon spent, over the rounds of a run."""

from pathlib import Path

from securefed.files import write_atomically
from securefed.record.metrics import Metrics
from securefed.reporting.charts import stacked, training


def draw_progress(metrics: Metrics, rounds: int, path: Path) -> None:
    """What was recorded over rounds, as on the report's page, to an SVG file.

    Args:
        rounds: of training; the lines after them score.
    """
    charts = [chart for chart, _ in training(metrics.rounds, rounds)]
    write_atomically(path, stacked(charts).encode())
