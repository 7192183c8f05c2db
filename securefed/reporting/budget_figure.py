"""The figure of `securefed budget`: epsilon over rounds, by both accountants."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from securefed.errors import ConfigurationError
from securefed.privacy.accounting import Guarantee
from securefed.privacy.planning import CurvePoint

FORMATS = (".svg", ".png")


def require_format(path: Path) -> None:
    """ConfigurationError unless the name ends in .svg or .png."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigurationError(
            f"the plot must be an .svg or .png file, got {path.name}",
            hint="for example --plot budget.svg",
        )


def draw_budget(
    curves: Mapping[str, Sequence[CurvePoint]],
    meaning: Guarantee,
    target: float | None,
    path: Path,
) -> None:
    """Draw one pair of lines per hospital.

    Args:
        curves: hospital -> epsilon over rounds.
        meaning: any of the plan's guarantees: says what the epsilons are.
        target: drawn as a horizontal line.
        path: .svg or .png file, replaced if it exists.

    Raises:
        ConfigurationError: another file type, or the file cannot be written.
    """
    require_format(path)
    # Text stays text, and the same plan gives the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "securefed", "font.size": 10}):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for index, (name, curve) in enumerate(curves.items()):
            rounds = [point.rounds for point in curve]
            for accountant, style in (("prv", "-"), ("rdp", "--")):
                values = [getattr(point, accountant) for point in curve]
                if None not in values:
                    label = f"{name}, {accountant.upper()}"
                    axes.plot(rounds, values, style, color=f"C{index % 10}", label=label)
        if target is not None:
            axes.axhline(
                target, color="0.4", linewidth=1, linestyle=":", label=f"at most {target:g}"
            )
        axes.set_xlabel("rounds")
        axes.set_ylabel(f"epsilon at delta {meaning.delta:g} per {meaning.unit}")
        axes.set_title(
            f"Privacy spent, upper bounds ({meaning.adjacency} adjacency, "
            f"{meaning.sampling.capitalize()} sampling)",
            fontsize=10,
        )
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
        kind = path.suffix.lower().removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else None
        try:
            figure.savefig(path, format=kind, metadata=metadata, dpi=150)
        except OSError as error:
            raise ConfigurationError(
                f"cannot write {path}: {error.strerror}", hint="give --plot a folder that exists"
            ) from None
