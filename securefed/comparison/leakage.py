"""What the audits of a row's runs found, by observer: the primary figures of a comparison.

Of an observer and an attack family one judgement stands in the table: the gravest one, over all
seeds; of several equally grave the one that has gone furthest towards, or over, its threshold. The
rest is in each run's own audit.json. Seeds are not averaged: one run that leaks is a leak.
"""

from collections.abc import Mapping

import msgspec

from securefed.record.audit import AuditFile
from securefed.record.comparison import Leak, Leakage
from securefed.verdict import gravest, gravity


def leakage(audits: Mapping[int, AuditFile]) -> Leakage:
    """Summarise the audits of one row.

    Args:
        audits: by seed.
    """
    observers: dict[str, dict[str, Leak]] = {}
    for seed, audit in sorted(audits.items()):
        for judgement in audit.judgements:
            leak = Leak(seed=seed, **msgspec.structs.asdict(judgement))
            leaks = observers.setdefault(leak.observer or "any", {})
            worst = leaks.setdefault(leak.attack, leak)
            leaks[leak.attack] = max(worst, leak, key=_weight)  # the first of equal ones
    return Leakage(verdict=gravest(audit.verdict for audit in audits.values()), observers=observers)


def _weight(leak: Leak) -> tuple[int, float]:
    return gravity(leak.verdict), leak.share_of_threshold
