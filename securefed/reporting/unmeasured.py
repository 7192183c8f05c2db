"""What an audit's lines leave to say: figures that are missing, and findings without a line."""

from collections.abc import Iterable

import msgspec

from securefed.record.audit import Finding, Judgement
from securefed.verdict import Verdict


class Unmeasured(msgspec.Struct, frozen=True):
    """What could not be measured for one reason: by whom, and with which methods of one attack."""

    attack: str
    titles: tuple[str, ...]
    observers: tuple[str, ...]
    verdict: Verdict | None
    reason: str
    remedy: str


def unmeasured(lines: Iterable[Judgement]) -> list[Unmeasured]:
    """Those of the lines that have no figure, grouped, in their order."""
    groups: dict[tuple[str, Verdict | None, str, str], list[Judgement]] = {}
    for line in lines:
        if line.value is None:
            groups.setdefault((line.attack, line.verdict, line.reason, line.remedy), []).append(
                line
            )
    return [
        Unmeasured(
            attack=attack,
            titles=tuple(dict.fromkeys(line.title for line in group)),
            observers=tuple(dict.fromkeys(line.observer or "any" for line in group)),
            verdict=verdict,
            reason=reason,
            remedy=remedy,
        )
        for (attack, verdict, reason, remedy), group in groups.items()
    ]


def unjudged(findings: Iterable[Finding], lines: Iterable[Judgement]) -> list[Finding]:
    """Findings of which no line of the verdict speaks."""
    spoken = {(k.attack, k.method, k.metric, k.observer, k.scene) for k in lines}
    return [
        k for k in findings if (k.attack, k.method, k.metric, k.observer, k.scene) not in spoken
    ]
