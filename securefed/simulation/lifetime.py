"""The ledger of a data set: what its patients have spent in all runs on it, in one process.

It lies with the site's key, beside the data, since the key is what tells its patients apart: two
data sets under one key share it. A run directory holds each simulated hospital's own part of one
run, as evidence; the budget of the patients is here, reserved first, and stays when a run directory
goes. Which hospital a patient is given to changes with settings; its history does not, since each
hospital of each run is a run of this ledger, with the patients that were there.

Phantoms have none: nobody is behind them. It has no limit until somebody sets one
(`securefed ledger budget`): until then it counts and shows.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.data.pseudonyms import key_place, ledger_beside
from securefed.errors import PrivacyError
from securefed.hospital import cost
from securefed.hospital.patients import participants
from securefed.privacy.accounting import at_least
from securefed.privacy.ledger import Ledger
from securefed.record.run_file import unit_in_words
from securefed.wire.description import JobDescription


def place(settings: Settings) -> Path | None:
    """Where the ledger of a run's data set lies; None where it has none."""
    data = settings.data
    if data.manifest is None or not settings.privacy.dp:
        return None
    return ledger_beside(data.site_key or key_place(data.manifest))


def open_ledger(settings: Settings, *, begun: bool) -> Ledger | None:
    """The ledger of a run's data set, made where the first private run on it begins.

    Raises:
        PrivacyError: it is damaged, counts another unit, or the run has begun and it is missing.
    """
    path, privacy = place(settings), settings.privacy
    if path is None:
        return None
    if path.exists():
        ledger = Ledger.open(path)
        if ledger.unit != privacy.unit:
            raise PrivacyError(
                f"{path} counts by {ledger.unit}, privacy.unit is {privacy.unit}",
                hint=f"histories of two units do not compose: set privacy.unit: {ledger.unit}",
            )
        return ledger
    if begun:
        raise PrivacyError(
            f"there is no ledger at {path}, and a run on these patients has begun",
            hint="put it back from a copy; without it nobody knows what they have spent. Runs "
            "begun before this version had none, and do not go on",
        )
    return Ledger.create(
        path,
        client=path.name.removesuffix(".ledger.sqlite"),
        unit=privacy.unit,
        delta=privacy.delta,
        budget_epsilon=None,
        accountant=privacy.accountant,
    )


def name_of(run: str, hospital: str) -> str:
    """A hospital's part of a run, as the data set's ledger names it."""
    return f"{run}/{hospital}"


def enrol(ledger: Ledger, settings: Settings, data: FederatedData, run: str) -> None:
    """Write down who takes part, if the budget holds the run for each of them.

    Raises:
        BudgetExceeded: nothing was spent.
        PrivacyError: it was begun with others.
    """
    smallest = None
    if settings.smallest_matters:
        smallest = min(len(each.train) for each in data.hospitals)
    names = tuple(each.name for each in data.hospitals)
    job = JobDescription(settings, run, names, smallest_training_set=smallest)
    for each in data.hospitals:
        planned = cost.planned(job, each.name, len(each.train))
        who = participants(each, data.key)
        ledger.enrol(name_of(run, each.name), who, planned, cost.scored(job))


def require_all(ledger: Ledger, run: str, held: Mapping[str, Ledger]) -> None:
    """Refuse a ledger of a data set that holds less of a run than its hospitals' own.

    Args:
        held: by hospital.

    Raises:
        PrivacyError: it is an old copy, or another's.
    """
    whole = ledger.statement()
    for name, one in held.items():
        short = one.statement().attempts(run) - whole.attempts(name_of(run, name))
        if short:
            raise PrivacyError(
                f"{ledger.path} holds fewer reservations of this run than {one.path}",
                hint="it is an old copy: put back the newest one",
            )


def told(ledger: Ledger, simulation: str | None) -> str:
    """What is spent and left, in one line.

    Args:
        simulation: what the patients are, if not people with scans of their own.
    """
    spent, limit = ledger.largest(), ledger.budget
    spent = replace(spent, unit=unit_in_words(spent.unit, simulation))
    left = "no limit is set"
    if limit is not None:
        left = f"{at_least(max(0.0, limit - spent.counted))} is left of {limit:g}"
    return f"over all runs on this data set: {spent}; {left} ({ledger.path})"
