"""What the audits of a row's runs found, by observer: the primary figures of a comparison.

Of an observer and an attack family one judgement stands in the table: the gravest one, over all
seeds; of several equally grave the one furthest over, or least under, its threshold. The rest is in
each run's own audit.json. Seeds are not averaged: one run that leaks is a leak.
"""

from collections.abc import Mapping, Sequence
from typing import Any

# Ascending. A figure that is reported without a verdict weighs least.
GRAVITY = (None, "PASS", "INCONCLUSIVE", "INVALID", "FAIL")
KEPT = ("name", "verdict", "value", "interval", "threshold", "reason")


def leakage(audits: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the audits of one row.

    Args:
        audits: seed -> content of audit.json.

    Returns:
        "verdict": the gravest of the audits; "observers": observer -> attack -> KEPT and "seed".
        A judgement that concerns no single observer stands under "any".
    """
    observers: dict[str, dict[str, dict[str, Any]]] = {}
    for seed, audit in sorted(audits.items()):
        for judgement in audit["judgements"]:
            observer = judgement.get("observer") or "any"
            attack = judgement.get("attack") or judgement["name"].split(" / ")[0]
            found = {key: judgement.get(key) for key in KEPT} | {"seed": seed}
            known = observers.setdefault(observer, {}).get(attack)
            if known is None or _weight(found) > _weight(known):
                observers[observer][attack] = found
    verdicts = [audit["verdict"] for audit in audits.values()]
    return {"verdict": gravest(verdicts), "observers": observers}


def gravest(verdicts: Sequence[str | None]) -> str | None:
    """The gravest of several verdicts; a word that is not one of them is graver than all."""
    return max(verdicts, key=_gravity, default=None)


def _gravity(verdict: str | None) -> int:
    return GRAVITY.index(verdict) if verdict in GRAVITY else len(GRAVITY)


def _weight(judgement: Mapping[str, Any]) -> tuple[int, float, float]:
    value, threshold = judgement["value"], judgement["threshold"]
    over = value - threshold if value is not None and threshold is not None else float("-inf")
    return _gravity(judgement["verdict"]), over, float("-inf") if value is None else value
