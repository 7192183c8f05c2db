"""An attack family: what the suite asks of it, and the case that it works on.

A family is a folder with a module that holds `FAMILY`, and one line in `attacks.families`. The
policies say what its figures may be and what its controls must show.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from attacks.own_part import without_own_part
from attacks.result import AttackResult, Effort, Progress
from attacks.subject import Subject
from securefed.exposure import Exposure, Observer, Vector


@dataclass(frozen=True, eq=False)
class Case:
    """One run as it is audited.

    Attributes:
        exposures: of the observers to audit, at least one; their own part is taken off.
        recorded: the same as they were, with what an observer knows of itself.
    """

    subject: Subject
    exposures: Mapping[Observer, Exposure] = field(repr=False)
    effort: Effort
    recorded: Mapping[Observer, Exposure] = field(repr=False)

    @classmethod
    def of(cls, subject: Subject, exposures: Mapping[Observer, Exposure], effort: Effort) -> "Case":
        """The case, from exposures as recorded."""
        others = {name: without_own_part(each, subject) for name, each in exposures.items()}
        return cls(subject, others, effort, exposures)

    @property
    def released(self) -> Vector:
        """Shared parameters of the released model, which every observer has, (P,)."""
        return next(iter(self.exposures.values())).released

    @property
    def closest(self) -> Observer:
        """Who is nearest to one hospital's update: what is tried once an audit goes by its name."""
        exposures = self.exposures
        return max(
            exposures, key=lambda name: (exposures[name].sees_updates, exposures[name].sees_means)
        )

    def covered(self, observer: Observer) -> str:
        """Why a coalition's updates need no attack of their own, or nothing."""
        server = self.exposures.get("server")
        if observer == "coalition" and server is not None and server.sees_updates:
            return (
                "the server alone sees every update, so that a coalition adds nothing: see server"
            )
        return ""


@dataclass(frozen=True, kw_only=True)
class Family:
    """How to run one family.

    Attributes:
        name: as in the list of families, the policies and audit.json.
        controls: what speaks of the code and not of this run, once an audit: positive and null
            controls, or what a sound program refuses.
        prepare: work that all observers share, once an audit, before `attack`.
        attack: on what one observer saw: (case, exposure, progress), and as a last argument what
            `prepare` made, if there is one. Where the observer saw nothing to attack, findings say
            why. None: nothing that an observer saw is attacked.
        alone: observers whose attack needs no more than one hospital's updates and patients: what
            a hospital has that audits itself. With any other the patients of all are needed.
        weights: of these three: about how many seconds an audit of a default run takes, `attack`
            for each observer.
    """

    name: str
    controls: Callable[[Case, Progress], AttackResult]
    prepare: Callable[[Case, Progress], Any] | None = None
    attack: Callable[..., AttackResult] | None = None
    alone: tuple[Observer, ...] = ()
    weights: tuple[float, float, float] = (1, 1, 1)


def on_updates(
    attack: Callable[..., AttackResult], absent: Callable[[Observer, str, bool], AttackResult]
) -> Callable[[Case, Exposure, Progress], AttackResult]:
    """A family's `attack` on the updates that an observer saw, its worst case once an audit."""

    def of_case(case: Case, exposure: Exposure, progress: Progress) -> AttackResult:
        alone = exposure.observer == case.closest
        if reason := case.covered(exposure.observer):
            return absent(exposure.observer, reason, alone)
        return attack(case.subject, exposure, case.effort, progress, with_worst_case=alone)

    return of_case
