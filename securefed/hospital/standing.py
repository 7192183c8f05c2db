"""How a run stands at a site: what its folder says, at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass

from securefed.errors import RunError
from securefed.hospital.keys import require_trusted
from securefed.hospital.site import Site
from securefed.record import egress, memberships
from securefed.record.audit import AuditFile
from securefed.record.memberships import Membership
from securefed.record.summary import HospitalSummary
from securefed.wire.agreement import FederationAgreement
from securefed.wire.description import JobDescription


@dataclass(frozen=True)
class Standing:
    """One run.

    Attributes:
        agreement: its digest.
        state: "not begun", "interrupted", "left" or "finished".
        rounds: that this hospital trained.
        spent_before, spent_after: epsilon over all runs, when it joined first and when it left
            last; None without a ledger, or before it left.
        messages, bytes: that left.
        auc: of the final model on its own held-out patients; None before the end.
        audit: the verdict of its own audit; None where there is none.
        never_again: why this hospital takes part in no job of it any more; None if it does.
    """

    name: str
    agreement: str
    hospitals: tuple[str, ...]
    state: str
    jobs: int
    rounds: int
    spent_before: float | None
    spent_after: float | None
    messages: int
    bytes: int
    auc: float | None
    audit: str | None
    never_again: str | None


def standing(site: Site, agreement: FederationAgreement) -> Standing:
    """How the agreement's run stands.

    Raises:
        RunError: one of its files is damaged.
    """
    folder = site.run(agreement.run)
    joined, left = memberships.read(site.jobs(agreement.run)), egress.read(folder)
    plan = JobDescription(agreement.settings, agreement.run, agreement.roster.names).plan
    steps = (plan.step(each.step) for each in left if each.stage == "work" and not each.refusal)
    ends = [each for each in joined if each.outcome in ("finished", "left")]
    finished = (folder / HospitalSummary.NAME).is_file()
    audited = (folder / AuditFile.NAME).is_file()
    return Standing(
        name=agreement.name,
        agreement=agreement.digest,
        hospitals=agreement.roster.names,
        state=_state(joined),
        jobs=max((each.number for each in joined), default=0),
        rounds=len({step.round for step in steps if step and step.train}),
        spent_before=joined[0].spent if joined else None,
        spent_after=ends[-1].spent if ends else None,
        messages=len(left),
        bytes=sum(each.size for each in left),
        auc=HospitalSummary.read(folder).auc if finished else None,
        audit=AuditFile.read(folder).of_the_run.value if audited else None,
        never_again=_distrusted(site, agreement),
    )


def _distrusted(site: Site, agreement: FederationAgreement) -> str | None:
    try:
        require_trusted(site.folder, agreement.roster)
    except RunError as error:
        return str(error)
    return None


def _state(joined: Sequence[Membership]) -> str:
    if not joined:
        return "not begun"
    ended = joined[-1].outcome in ("finished", "left")
    return joined[-1].outcome if ended else "interrupted"
