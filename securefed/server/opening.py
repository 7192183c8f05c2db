"""Opening the server: from the public job description, a transport and its own folder."""

from pathlib import Path

from securefed.errors import ConfigurationError
from securefed.server.rounds import Server
from securefed.server.summation import PlainSummation, SecureSummation, Summation
from securefed.wire import openings
from securefed.wire.description import JobDescription
from securefed.wire.openings import Openings
from securefed.wire.transport import Transport


def open_server(job: JobDescription, transport: Transport, folder: Path) -> Server:
    """The server of a job before its first round; `restore` puts it behind a later one.

    Args:
        folder: where it remembers which sums may have been opened.

    Raises:
        RunError: that memory is damaged.
        ConfigurationError, PrivacyError: the description cannot be carried out.
    """
    summation, patience = _summation(job, transport, folder), job.settings.federation.patience
    modalities = job.settings.model.modalities
    return Server(job.plan, summation, job.strategy, job.shared, patience, modalities)


def _summation(job: JobDescription, transport: Transport, folder: Path) -> Summation:
    settings = job.settings
    minimum, deadline_s = settings.federation.minimum_clients, settings.federation.timeout_s
    if job.roster and job.rules:
        return SecureSummation(
            transport,
            job.layout,
            job.roster,
            job.rules,
            minimum,
            deadline_s,
            openings=Openings(folder / openings.NAME),
        )
    if job.layout.needs_masks:
        raise ConfigurationError(
            "privacy.placement: distributed needs secure aggregation",
            hint="set privacy.placement to local, or secure_aggregation.enabled to true",
        )
    return PlainSummation(transport, job.parameters, job.layout, minimum, deadline_s)
