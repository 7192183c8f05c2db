"""Figures of an audit: reconstructions beside the truth, ROC curves, canaries, claims.

Knows no family, only what is to be drawn. Reconstructions are PNG, because they are pictures;
everything else is SVG with text as text. The files lie in RUN/audit/, which is emptied first:
figures of an older audit beside a newer audit.json would mislead.
"""

import math
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from attacks.findings import LowerBound
from attacks.result import NoiseChart, RocChart, ScoreChart
from attacks.result import Picture as Reconstruction
from attacks.suite import Done
from securefed.record.audit import Curve, Picture

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "securefed", "font.size": 10}
RARE = 1e-4  # chance that any point of an honest run falls into the grey of its noise
BLUE, ORANGE, GREY = "#1b5e9e", "#b3541e", "0.6"


def draw(done: Sequence[Done], folder: Path) -> tuple[tuple[Picture, ...], tuple[Curve, ...]]:
    """Draw everything into a folder, emptied before; what there is, as audit.json lists it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pictures = [picture for each in done for picture in each.result.pictures]
    shown = tuple(_draw_picture(each, i, folder) for i, each in enumerate(pictures, start=1))
    curves: list[Curve] = []

    def file(name: str, title: str) -> Path:
        curves.append(Curve(file=f"{folder.name}/{name}", title=title))
        return folder / name

    for each in done:
        for chart in each.result.charts:
            match chart:
                case RocChart():
                    draw_roc(chart, file(f"roc-{each.step.observer}.svg", chart.title))
                case ScoreChart():
                    draw_scores(chart, file(f"canaries-{each.step.observer}.svg", chart.title))
                case NoiseChart():
                    draw_noise(chart, file(f"noise-{each.step.observer}.svg", chart.title))
    bounds: dict[tuple[str, str], dict[str, LowerBound]] = defaultdict(dict)  # -> row
    for finding in (finding for each in done for finding in each.result.findings):
        if isinstance(finding.estimate, LowerBound):
            row = f"{finding.observer}, {finding.method}"
            bounds[finding.attack, finding.metric][row] = finding.estimate
    for (attack, metric), rows in bounds.items():
        title = f"{metric.capitalize()} claimed and certified, {attack}"
        draw_bounds(rows, metric, title, file(f"bound-{attack.replace(' ', '-')}.svg", title))
    return shown, tuple(curves)


def _draw_picture(picture: Reconstruction, number: int, folder: Path) -> Picture:
    """True image, reconstruction, nearest decoy."""
    figure = Figure(figsize=(6, 2.4), layout="constrained")
    images = (picture.true, picture.reconstruction, picture.decoy)
    titles = ("true", "reconstruction", "nearest decoy")
    for axes, image, title in zip(figure.subplots(1, 3), images, titles, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    name = f"reconstruction-{number:02d}.png"
    figure.savefig(folder / name, dpi=120, metadata={"Software": None})
    return Picture(file=f"{folder.name}/{name}", caption=picture.caption)


def draw_roc(chart: RocChart, path: Path) -> None:
    """On log-log axes, with a band of the exact 95% interval of each true-positive rate."""
    curves = chart.curves
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
        axes.set_title(chart.title)
        axes.legend(loc="lower right", frameon=False)
        _save(figure, path)


def draw_scores(chart: ScoreChart, path: Path) -> None:
    """Histograms of the scores of canaries that the coin put in and left out."""
    included, excluded = chart.included, chart.excluded
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.add_subplot()
        bins = np.histogram_bin_edges(np.concatenate([included, excluded]), bins=30).tolist()
        axes.hist(excluded, bins=bins, color=GREY, alpha=0.6, label="left out")
        axes.hist(included, bins=bins, color=ORANGE, alpha=0.6, label="included")
        axes.set_xlabel("score of a canary")
        axes.set_ylabel("canaries")
        axes.set_title(chart.title)
        axes.legend(frameon=False)
        _save(figure, path)


def draw_noise(chart: NoiseChart, path: Path) -> None:
    """Noise over what is claimed, in every pair of rounds, and where an honest one hardly falls."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.add_subplot()
        points = np.concatenate(list(chart.curves.values()))
        low = np.sqrt(stats.chi2.ppf(RARE / len(points), points[:, 2].min()) / points[:, 2].min())
        axes.axhspan(0, float(low), color=GREY, alpha=0.25, lw=0, label="too little")
        axes.axhline(1.0, color="black", linewidth=0.8, label="claimed")
        for index, (name, curve) in enumerate(chart.curves.items()):
            axes.plot(curve[:, 0], curve[:, 1], ".-", color=f"C{index}", linewidth=0.8, label=name)
        axes.set_ylim(0, max(1.4, 1.05 * float(points[:, 1].max())))
        axes.set_xlabel("round")
        axes.set_ylabel("noise, measured / claimed")
        axes.set_title(chart.title)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        _save(figure, path)


def draw_bounds(bounds: Mapping[str, LowerBound], metric: str, title: str, path: Path) -> None:
    """What is claimed against what is certified, one row for each observer and method."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6, 1.2 + 0.5 * len(bounds)), layout="constrained")
        axes = figure.add_subplot()
        for row, bound in enumerate(bounds.values()):
            certified, claimed, visible = bound.value, bound.claim, bound.least_visible
            axes.barh(row, certified, height=0.5, color=BLUE, label="certified: at least")
            axes.text(certified, row, f" {certified:.2f}", va="center")
            if claimed is not None:
                axes.plot([claimed] * 2, [row - 0.4, row + 0.4], color=ORANGE, label="claimed")
            if math.isfinite(visible):
                axes.plot(visible, row, "D", color="black", markersize=4, label="least visible")
        axes.set_yticks(range(len(bounds)), list(bounds))
        axes.set_xlim(left=0)
        axes.set_xlabel(metric)
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
