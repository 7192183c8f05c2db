"""The statistics stay light: they load neither torch nor the federation that they judge."""

import subprocess
import sys

MODULES = [
    "epsilon.bounds",
    "epsilon.canaries",
    "epsilon.gaussian_dp",
    "epsilon.power",
    "errors",
    "membership.scores",
    "policy",
    "statistics.intervals",
    "statistics.roc",
    "statistics.targets",
    "verdicts",
]


def test_the_statistics_load_without_torch_and_without_the_federation():
    program = "; ".join(
        [
            *(f"import attacks.{name}" for name in MODULES),
            "import sys",
            "light = {'securefed', 'securefed.model', 'securefed.model.auc', 'securefed.errors',"
            " 'securefed.exposure', 'securefed.verdict'}",
            "heavy = ('torch', 'opacus', 'protocols', 'sklearn')",
            "print([m for m in sys.modules if m.split('.')[0] in heavy"
            " or m.split('.')[0] == 'securefed' and m not in light])",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
