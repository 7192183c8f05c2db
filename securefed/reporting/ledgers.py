"""The privacy ledgers of a run, composed anew by both accountants; those that cannot count named.

summary.json has an epsilon as the run computed it; here it is computed once more from what each
hospital's ledger says was spent.
"""

from securefed.privacy import ledger_file
from securefed.privacy.accounting import steps_by_mechanism
from securefed.privacy.statement import Statement, read
from securefed.record.run_file import unit_in_words
from securefed.reporting.facts import LedgerFacts, Mechanism
from securefed.reporting.withheld import Withheld
from securefed.run_directory import Run


def read_ledgers(run: Run, withheld: Withheld) -> list[LedgerFacts]:
    """One for each hospital of a run with DP whose folder is here, in order; without DP none.

    Raises:
        PrivacyError: a ledger is missing or damaged that evidence does not name.
    """
    if not run.settings.privacy.dp:
        return []
    facts, simulation = [], run.about.data.simulation
    for name in run.here:
        told = withheld.why(run.place(name, ledger_file.NAME))
        facts.append(
            _unknown(name, told) if told else _ledger(name, read(run.ledger(name)), simulation)
        )
    return facts


def _ledger(hospital: str, ledger: Statement, simulation: str | None) -> LedgerFacts:
    shared = max((event.noise_from for event in ledger.history), default=1)
    return LedgerFacts(
        hospital=hospital,
        budget=ledger.budgets[-1],
        epsilon_prv=_finite(ledger.guarantee("prv").epsilon),
        epsilon_rdp=_finite(ledger.guarantee("rdp").epsilon),
        delta=ledger.delta,
        unit=unit_in_words(ledger.unit, simulation),
        reservations=len(ledger.reservations),
        mechanisms=[
            Mechanism(noise_multiplier=sigma, sample_rate=rate, steps=steps, noise_from=shared)
            for (sigma, rate), steps in steps_by_mechanism(ledger.history).items()
        ],
    )


def _unknown(hospital: str, told: str) -> LedgerFacts:
    return LedgerFacts(
        hospital=hospital,
        budget=None,
        epsilon_prv=None,
        epsilon_rdp=None,
        delta=None,
        unit=None,
        reservations=None,
        mechanisms=[],
        told=told,
    )


def _finite(epsilon: float | None) -> float | None:
    return epsilon if epsilon is not None and epsilon < float("inf") else None
