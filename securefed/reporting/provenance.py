"""What a run was made of, as rows of key and value: settings, versions, machine, randomness."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from securefed.config import PATHS
from securefed.reporting.attack_facts import Audit
from securefed.reporting.facts import Setting
from securefed.run_directory import Run
from securefed.settings_file import dotted

WITHHELD = "given (a path, not repeated here)"


def settings(run: Run) -> list[Setting]:
    """Every setting of run.json in its order; of those that are paths only that they are given."""
    return rows(run.about.settings)


def environment(run: Run, audit: Audit | None) -> list[Setting]:
    """Versions, machine, public weights and random numbers, from run.json."""
    about = run.about
    found = [Setting(key="securefed", value=about.securefed)]
    for part in (about.environment, about.model, about.randomness):
        found += rows(msgspec.to_builtins(part))
    if audit:
        found += rows({"audit.effort": audit.effort, "audit.policy": audit.policy})
    return found


def rows(values: Mapping[str, Any]) -> list[Setting]:
    """Nested values, flat: dotted key and text; of paths only that they are given."""
    # By what a setting is, not by how its value looks: a path may have no slash.
    return [
        Setting(key=key, value=WITHHELD if key in PATHS and value else _text(value))
        for key, value in dotted(values).items()
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
