"""Draw docs/figures/direct_tests.svg: noise measured in small runs, one honest and two broken.

    python docs/draw_direct_tests.py

The runs are real, with faults put into their mechanism as the sabotage suite does it. Noise is
seeded, so that the same picture comes out.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

import matplotlib as mpl  # noqa: E402  # after the path
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from scipy import stats  # noqa: E402

from attacks.direct_tests.blind import Lengths, lengths  # noqa: E402
from attacks.direct_tests.releases import series  # noqa: E402
from securefed.auditing.exposures import exposures_of  # noqa: E402
from securefed.auditing.figures import RARE, STYLE  # noqa: E402
from securefed.auditing.subject import subject_of  # noqa: E402
from tests import sabotage  # noqa: E402

FILE = ROOT / "docs" / "figures" / "direct_tests.svg"
ROUNDS = 24
RUNS = {
    "honest": sabotage.honest,
    "half the noise": sabotage.noise_times(0.5),
    "none in the last round": sabotage.no_noise_in_round(ROUNDS),
}
MARKS = {"honest": "o", "half the noise": "s", "none in the last round": "x"}


def measured(fault: sabotage.Fault, folder: Path, seed: int) -> list[Lengths]:
    """Every hospital's rounds in a run of its own."""
    run = sabotage.run_with(fault, folder, federation={"rounds": ROUNDS}, seed=seed)
    (exposure,) = exposures_of(run, ["server"]).values()
    return [each for one in series(subject_of(run), exposure) if (each := lengths(one))]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for index, (name, fault) in enumerate(RUNS.items()):
            hospitals = measured(fault, Path(folder) / str(index), seed=index)
            for shift, each in enumerate(hospitals):
                squares, directions = each.of_rounds
                axes.plot(
                    np.array(each.numbers) + 0.2 * (shift - 1),
                    np.sqrt(squares / directions),
                    MARKS[name],
                    color=f"C{index}",
                    markersize=4,
                    label=name if shift == 0 else None,
                )
        points = len(hospitals) * ROUNDS
        low = float(np.sqrt(stats.chi2.ppf(RARE / points, directions.min()) / directions.min()))
        axes.axhspan(0, low, color="0.6", alpha=0.25, lw=0)
        axes.axhline(1.0, color="black", linewidth=0.8)
        axes.set(xlabel="round", ylabel="noise, measured / claimed")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.savefig(FILE, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
