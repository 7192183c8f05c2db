"""Figures of an audit: reconstructions beside the truth, ROC curves, canaries, epsilon.

Takes plain arrays and the lists of audit.json, knows no attack. Reconstructions are PNG, because
they are pictures; everything else is SVG with text as text. The files lie in RUN/audit/, which is
emptied first: figures of an older audit beside a newer audit.json would mislead.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "securefed", "font.size": 10}
BLUE, ORANGE, GREY = "#1b5e9e", "#b3541e", "0.6"


class Reconstruction(Protocol):
    """A reconstruction beside the truth; images (size, size) in [0, 1]."""

    @property
    def caption(self) -> str: ...
    @property
    def true(self) -> NDArray[np.float32]: ...
    @property
    def reconstruction(self) -> NDArray[np.float32]: ...
    @property
    def decoy(self) -> NDArray[np.float32]: ...


def empty_folder(folder: Path) -> Path:
    """A new, empty folder of that name; what was there is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def draw_pictures(pictures: Sequence[Reconstruction], folder: Path) -> list[dict[str, str]]:
    """One PNG each: true image, reconstruction, nearest decoy; returns file and caption of each."""
    drawn = []
    for number, picture in enumerate(pictures, start=1):
        figure = Figure(figsize=(6, 2.4), layout="constrained")
        images = (picture.true, picture.reconstruction, picture.decoy)
        titles = ("true", "reconstruction", "nearest decoy")
        for axes, image, title in zip(figure.subplots(1, 3), images, titles, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(title)
            axes.set_axis_off()
        name = f"reconstruction-{number:02d}.png"
        figure.savefig(folder / name, dpi=120, metadata={"Software": None})
        drawn.append({"file": f"{folder.name}/{name}", "caption": picture.caption})
    return drawn


def draw_roc(curves: Mapping[str, Floats], title: str, path: Path) -> None:
    """ROC on log-log axes with a band of the exact 95% interval of each true-positive rate.

    Args:
        curves: name of the attack -> (points, 4): fpr, tpr, lower and upper limit of tpr.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5, 4.5), layout="constrained")
        axes = figure.add_subplot()
        floor = min(float(curve[curve[:, 0] > 0, 0].min()) for curve in curves.values())
        line = np.geomspace(floor, 1, 50)
        axes.plot(line, line, ":", color=GREY, label="chance")
        for index, (name, curve) in enumerate(curves.items()):
            fpr, tpr, low, high = np.clip(curve, floor / 2, 1).T
            colour = f"C{index}"
            axes.step(fpr, tpr, where="post", color=colour, label=name, linewidth=1.5)
            if index == 0:  # the band of the primary attack only: several hide each other
                axes.fill_between(fpr, low, high, step="post", color=colour, alpha=0.15, lw=0)
        axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1))
        axes.set_xlabel("false-positive rate (non-members called members)")
        axes.set_ylabel("true-positive rate")
        axes.set_title(title)
        axes.legend(loc="lower right", frameon=False)
        _save(figure, path)


def draw_canaries(included: Floats, excluded: Floats, title: str, path: Path) -> None:
    """Histograms of the scores of canaries that the coin put in and left out."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.add_subplot()
        bins = np.histogram_bin_edges(np.concatenate([included, excluded]), bins=30).tolist()
        axes.hist(excluded, bins=bins, color=GREY, alpha=0.6, label="left out")
        axes.hist(included, bins=bins, color=ORANGE, alpha=0.6, label="included")
        axes.set_xlabel("score of a canary")
        axes.set_ylabel("canaries")
        axes.set_title(title)
        axes.legend(frameon=False)
        _save(figure, path)


def draw_epsilon(records: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Epsilon claimed against epsilon certified, one row per observer of `epsilon` records."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6, 1.2 + 0.5 * len(records)), layout="constrained")
        axes = figure.add_subplot()
        for row, record in enumerate(records):
            certified, claimed = record["certified"], record["claimed_epsilon"]
            axes.barh(row, certified, height=0.5, color=BLUE, label="certified: at least")
            axes.text(certified, row, f" {certified:.2f}", va="center")
            if claimed is not None:
                axes.plot([claimed] * 2, [row - 0.4, row + 0.4], color=ORANGE, label="claimed")
            visible = record["visible_epsilon"]
            if visible is not None:
                axes.plot(visible, row, "D", color="black", markersize=4, label="least visible")
        axes.set_yticks(range(len(records)), [record["observer"] for record in records])
        axes.set_xlim(left=0)
        axes.set_xlabel("epsilon")
        axes.set_title(title)
        handles, labels = axes.get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True))
        axes.legend(
            named.values(),
            named.keys(),
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),  # beside the axes: inside it would cover a claim
        )
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None})
