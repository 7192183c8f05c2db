"""progress.svg: AUC and loss of the global model, and epsilon spent, over the rounds of a run."""

from pathlib import Path

from securefed.files import write_atomically
from securefed.record.metrics import Metrics
from securefed.reporting.charts import stacked, training


def draw_progress(metrics: Metrics, path: Path) -> None:
    """What was recorded over rounds, as on the report's page, to an SVG file."""
    # The last line is the scoring of the final model.
    charts = [chart for chart, _ in training(metrics.rounds, len(metrics.rounds) - 1)]
    write_atomically(path, stacked(charts).encode())
