"""What `securefed ledger show` shows of a ledger: as JSON, and on the screen."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from securefed.cli.screen import Narrowing, screen
from securefed.errors import PrivacyError

if TYPE_CHECKING:
    from securefed.privacy.accountant import Accountant
    from securefed.privacy.accounting import Guarantee
    from securefed.privacy.ledger import Ledger

SHOWN_OF_RUN = 12  # characters of a run's identifier; JSON has the whole


def facts_of(path: Path) -> dict[str, Any]:
    """One ledger as it goes into JSON; an epsilon without bound is null there."""
    # Imported here: --help needs no accountant.
    from securefed.privacy import spread
    from securefed.privacy.ledger import Ledger
    from securefed.record.run_file import unit_in_words

    ledger, made_up = Ledger.open(path), _simulation(path)
    first: Accountant = ledger.accountant
    second: Accountant = "rdp" if first == "prv" else "prv"
    limit = ledger.budgets()[-1]
    held = ledger.statement()
    own = held.largest()
    # Where it is known who took part, held-out patients are in the largest, each by itself.
    evaluation = None if held.enrolments else held.evaluation()
    spent = {first: own, second: _spent(ledger, second)}
    return {
        "path": str(path),
        "client": ledger.client,
        "unit": ledger.unit,
        "delta": ledger.delta,
        "accountant": ledger.accountant,
        "budget": limit.epsilon,
        "budgets": [vars(each) for each in ledger.budgets()],
        "left": None if limit.epsilon is None else max(0.0, limit.epsilon - own.counted),
        "patients": [
            {**vars(each), "up_to": each.up_to if math.isfinite(each.up_to) else None}
            for each in spread.of(held)
        ],
        "spent": {
            name: each.epsilon if each and math.isfinite(each.counted) else None
            for name, each in spent.items()
        },
        "noise": own.noise,
        "guarantees": [
            str(replace(each, unit=unit_in_words(each.unit, made_up)))
            for each in spent.values()
            if each
        ],
        "evaluation": vars(evaluation) if evaluation else None,
        "reservations": len(ledger.history()),
        "noise_from": own.noise_from,
        "runs": [vars(each) for each in ledger.runs()],
    }


def _simulation(path: Path) -> str | None:
    """What the patients of a ledger are, if not people, as far as its place says; else None."""
    from securefed.hospital import site
    from securefed.record.run_file import RunFile

    if (path.parent / site.NAME).is_file():
        return site.simulation(path.parent) or None
    folders = path.resolve().parents  # RUN/hospitals/NAME/ledger.sqlite
    if len(folders) < 3 or not (folders[2] / RunFile.NAME).is_file():
        return None
    return RunFile.read(folders[2]).data.simulation


def _spent(ledger: "Ledger", accountant: "Accountant") -> "Guarantee | None":
    """What is spent by the accountant that does not decide; None where it has no figure."""
    try:
        return ledger.largest(accountant)
    except PrivacyError:
        return None


def show(facts: dict[str, Any]) -> None:
    from securefed.privacy.accounting import Guarantee, at_least

    console = screen(stderr=False)
    console.print(Text(facts["client"], style="bold") + f": {facts['path']}")
    limit = facts["budgets"][-1]
    since = f"since {_minute(limit['set_at'])} UTC: {limit['reason']}"
    console.print(f"budget: {limit_of(limit['epsilon'])}, {since}")
    for guarantee in facts["guarantees"]:
        console.print(f"spent:  {guarantee}")
    if facts["evaluation"]:
        console.print(f"beside: {Guarantee(**facts['evaluation'])}")
    if facts["left"] is not None:
        console.print(f"left:   epsilon {at_least(facts['left'])} to the limit")
    for cell in facts["patients"]:
        up_to = "" if cell["up_to"] is None else f" and at most {cell['up_to']:g}"
        console.print(f"        {cell['patients']} patients: above {cell['above']:g}{up_to}")
    if facts["noise_from"] > 1:
        console.print(
            f"noise:  of {facts['noise_from']} hospitals together; it holds if they keep to the "
            "protocol"
        )
    if not facts["runs"]:
        console.print("runs:   none yet")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run")
    for column in ("rounds", "reservations", "steps"):
        table.add_column(column, justify="right")
    table.add_column("last (UTC)")
    for run in facts["runs"]:
        counts = (run["rounds"], run["reservations"], run["steps"])
        name, slash, hospital = run["run"].partition("/")  # of a data set's ledger
        table.add_row(
            name[:SHOWN_OF_RUN] + slash + hospital, *map(str, counts), _minute(run["last"])
        )
    console.print(Narrowing(table, ("steps", "last (UTC)", "reservations")))


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def limit_of(epsilon: float | None) -> str:
    return "no limit" if epsilon is None else f"epsilon {epsilon:g}"
