"""A survey among n hospitals in one process, as hospitals on machines of their own would do it."""

import uuid
from collections.abc import Callable
from pathlib import Path

from protocols.identity import IdentityKey
from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.hospital.patients import participants
from securefed.hospital.survey import everybody, open_survey
from securefed.privacy import ledger_file
from securefed.privacy.ledger import Ledger
from securefed.record.survey import SurveyFile
from securefed.server.survey import ask
from securefed.simulation import lifetime
from securefed.simulation.in_process import InProcessTransport
from securefed.simulation.patients import load_data
from securefed.wire.survey import survey_job

Say = Callable[[str], None]


def conduct(
    settings: Settings,
    epsilon: float,
    folder: Path,
    say: Say,
    *,
    data: FederatedData | None = None,
) -> SurveyFile:
    """Survey the hospitals that settings name; a ledger of each is in `folder`, with its answer.

    A data set's own ledger (simulation.lifetime) pays first, and may refuse.

    Args:
        epsilon: that it costs every patient.
        folder: there, and empty.
        data: patients that are already loaded.

    Raises:
        ConfigurationError, DataError, PrivacyError: it cannot be done; nothing was counted.
        RoundAborted: no sum came of it.
    """
    say("reading patients")
    data = data or load_data(settings)
    keys = {each.name: IdentityKey.generate() for each in data.hospitals}
    public = {name: key.public for name, key in keys.items()}
    job = survey_job(settings, uuid.uuid4().hex, epsilon, public)
    lasting = lifetime.open_ledger(settings, begun=False)
    handlers = {}
    for patients in data.hospitals:
        say(f"counting at {patients.name}")
        own = folder / "hospitals" / patients.name
        own.mkdir(parents=True)
        ledger = Ledger.create(
            own / ledger_file.NAME,
            client=patients.name,
            unit="patient",
            delta=settings.privacy.delta,
            budget_epsilon=epsilon,
            accountant=settings.privacy.accountant,
        )
        who = participants(patients, data.key)
        if lasting:
            part = lifetime.name_of(job.run, patients.name)
            lasting.enrol(part, everybody(who), [job.noise.event])
            ledger.reserve_first_in(lasting, part)
        client = open_survey(job, own, patients, who, keys[patients.name], ledger)
        handlers[patients.name] = client.handle
    say("summing under masks")
    found = ask(job, InProcessTransport(handlers), folder, data.simulation)
    found.write(folder)
    if lasting:
        say(lifetime.told(lasting, data.simulation))
    return found
