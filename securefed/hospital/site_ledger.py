"""A site's ledger as one run uses it: who takes part is enrolled before it is spent on."""

from protocols.errors import ProtocolError
from securefed.errors import PrivacyError, RunError
from securefed.hospital import cost
from securefed.hospital.patients import OwnPatients
from securefed.hospital.site import Site
from securefed.privacy.chain import Head
from securefed.privacy.ledger import Ledger
from securefed.wire.agreement import FederationAgreement
from securefed.wire.description import JobDescription
from securefed.wire.hello import Anchor


def site_ledger(site: Site, job: JobDescription, own: OwnPatients, *, begun: bool) -> Ledger | None:
    """The site's ledger, with who takes part, if it holds the run for each of them.

    Args:
        begun: whether the run has begun here.

    Returns:
        None without differential privacy.

    Raises:
        BudgetExceeded: it does not; nothing was spent.
        PrivacyError: it counts otherwise than the run.
        RunError: it knows of the run, and the run's folder does not.
    """
    privacy, patients = job.settings.privacy, len(own.patients.train)
    if not privacy.dp:
        return None
    ledger = site.ledger(privacy)
    if ledger.delta * patients >= 1:
        raise PrivacyError(
            f"the ledger of {ledger.client} counts at delta {ledger.delta:g}, not below "
            f"1 / {patients}, its patients in this run",
            hint="such an epsilon promises nothing: make the site anew, with a smaller --delta",
        )
    if ledger.statement().attempts(job.run) and not begun:
        raise RunError(
            "the ledger has reservations of this run, and its folder is empty",
            hint="put the run's folder back from a backup; what was answered is in it",
        )
    planned = () if begun else cost.planned(job, site.name, patients)
    ledger.enrol(job.run, own.participants, planned, cost.scored(job))
    return ledger


def remembers(site: Site, agreement: FederationAgreement, told: Anchor | None) -> bool:
    """Whether what the server remembers of this ledger, if anything, was signed here.

    Raises:
        OldLedger: it was, and the ledger is not what it was of, or older.
    """
    if told is None:
        return True
    try:
        told.require(agreement.roster, site.name)
    except ProtocolError:
        return False
    site.ledger().require_after(Head(told.presence.rows, told.presence.head))
    return True
