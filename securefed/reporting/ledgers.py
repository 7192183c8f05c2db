"""The privacy ledgers of a run, read from copies and composed anew by both accountants.

summary.json has an epsilon as the run computed it; here it is computed once more from what each
hospital's ledger says was spent. The files are copied first, because opening an SQLite database
can change it, and evidence must stay as it is.
"""

import shutil
import tempfile
from pathlib import Path

from securefed.reporting.facts import LedgerFacts, Mechanism


def read_ledgers(folder: Path) -> list[LedgerFacts]:
    """Every hospitals/NAME/ledger.sqlite, by name; empty where there is none.

    Raises:
        PrivacyError: a ledger is damaged.
    """
    paths = sorted((folder / "hospitals").glob("*/ledger.sqlite"))
    return [_ledger(path) for path in paths]


def _ledger(path: Path) -> LedgerFacts:
    # Imported here: it brings Opacus and torch, and a run without DP has no ledger.
    from securefed.privacy.accounting import steps_by_mechanism
    from securefed.privacy.ledger import Ledger

    with tempfile.TemporaryDirectory(prefix="securefed-report-") as scratch:
        for file in path.parent.glob("ledger.sqlite*"):  # the log of a crashed run goes along
            shutil.copyfile(file, Path(scratch) / file.name)
        ledger = Ledger.open(Path(scratch) / path.name)
        history = ledger.history()
        shared = max((event.noise_from for event in history), default=1)
        return LedgerFacts(
            hospital=ledger.client,
            budget=ledger.budget,
            epsilon_prv=_finite(ledger.spent("prv")),
            epsilon_rdp=_finite(ledger.spent("rdp")),
            delta=ledger.delta,
            unit=ledger.unit,
            reservations=len(history),
            mechanisms=[
                Mechanism(noise_multiplier=sigma, sample_rate=rate, steps=steps, noise_from=shared)
                for (sigma, rate), steps in steps_by_mechanism(history).items()
            ],
        )


def _finite(epsilon: float) -> float | None:
    return epsilon if epsilon < float("inf") else None
