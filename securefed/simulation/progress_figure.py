"""progress.svg: AUC of the global model and epsilon spent, over the rounds of a run."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from securefed.record.metrics import Metrics


def draw_progress(metrics: Metrics, path: Path) -> None:
    """AUC of the global model and epsilon spent, over rounds, to an SVG file."""
    spent = [(line.round, line.epsilon) for line in metrics.rounds if line.epsilon is not None]
    # Text stays text, and two runs of the same numbers give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "securefed", "font.size": 10}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        left = figure.add_subplot()
        left.set_xlabel("round")
        left.set_ylabel("AUC, held-out patients")
        left.set_ylim(0.4, 1.0)
        left.axhline(0.5, color="0.6", linewidth=1, linestyle=":")
        if metrics.curve:
            left.plot(
                *zip(*metrics.curve, strict=True),
                "o-",
                color="#1b5e9e",
                markersize=3,
                label="AUC",
            )
            left.legend(loc="lower center", frameon=False)
        if spent:
            right = left.twinx()
            right.set_ylabel("epsilon spent")
            right.plot(
                [k for k, _ in spent], [v for _, v in spent], "--", color="#b3541e", label="epsilon"
            )
            right.set_ylim(bottom=0)
            right.legend(loc="lower right", frameon=False)
        left.set_title("Global model over rounds")
        figure.savefig(path, format="svg", metadata={"Date": None})
