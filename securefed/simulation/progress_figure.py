"""progress.svg: AUC and loss of the global model, and epsilon spent, over the rounds of a run."""

from pathlib import Path

import msgspec

from securefed.files import write_atomically
from securefed.record.metrics import Metrics
from securefed.reporting.charts import stacked, training


def draw_progress(metrics: Metrics, path: Path) -> None:
    """What was recorded over rounds, as on the report's page, to an SVG file."""
    # The last line is the scoring of the final model, which spends nothing.
    *trained, scored = metrics.rounds
    lines = [*trained, msgspec.structs.replace(scored, epsilon=None)]
    charts = [chart for chart, _ in training(lines, budget=None)]
    write_atomically(path, stacked(charts).encode())
