"""Opening a run: build the federation that settings describe, or continue the one on disk.

Identity keys live in memory for the life of the process: in a simulation there is nobody else to
recognise them tomorrow. A resumed run is a new job to the secure-sum protocol, with new keys.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from protocols.client import SecureSumClient
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.data.source import load_data
from securefed.errors import ConfigurationError, RunError
from securefed.hospital.client import Client
from securefed.model.initial import initial_network
from securefed.model.sharing import flatten, shared_names
from securefed.model.strategies import build_strategy
from securefed.privacy.ledger import Ledger
from securefed.privacy.ring_code import RingCode
from securefed.record import jobs
from securefed.record.directory import RunDirectory
from securefed.record.provenance import describe, require_same_run
from securefed.record.recording import Recording
from securefed.server.recording import RecordingTransport
from securefed.server.rounds import Server
from securefed.server.summation import PlainSummation, SecureSummation, Summation
from securefed.simulation.builders import (
    View,
    build_canaries,
    build_ring,
    build_trainer,
    choose_device,
    secure_rules,
)
from securefed.simulation.in_process import InProcessTransport
from securefed.simulation.simulation import Simulation
from securefed.training.canaries import CanarySecret
from securefed.wire.layout import Layout, build_layout
from securefed.wire.plan import Plan
from securefed.wire.shared_noise import DistributedLayout
from securefed.wire.transport import Transport

Say = Callable[[str], None]


def open_run(
    settings: Settings,
    directory: RunDirectory,
    say: Say,
    *,
    resume: bool,
    data: FederatedData | None = None,
    view: View | None = None,
) -> Simulation:
    """Build the federation of `settings` in `directory`; with `resume`, at its last round.

    Args:
        say: told what is being prepared.
        data: patients that are already loaded.
        view: what the hospitals see of their patients, for baselines.

    Raises:
        ConfigurationError, DataError, PrivacyError: the run cannot start; nothing was trained.
        RunError: the run to resume is damaged, or its patients have changed.
    """
    started = time.perf_counter()
    device = choose_device(settings.device)
    say("reading patients")
    data = data or load_data(settings)
    network, weights_sha256 = initial_network(settings)
    names = shared_names(network, settings.federation.shared)
    shared = flatten(dict(network.named_parameters()), names).astype(np.float64)
    about = describe(settings, data, weights_sha256, len(shared), device)
    if resume:
        recorded = directory.read_json("run.json")
        require_same_run(recorded, about)
        about["run"] = recorded["run"]
    else:
        directory.write_json("run.json", about)

    canaries = build_canaries(settings, directory, data, len(shared))
    ring = build_ring(settings, data, len(shared))
    layout = build_layout(settings, len(shared), ring)
    job = _secure_job(settings, layout, [each.name for each in data.hospitals])
    clients: dict[str, Client] = {}
    ledgers: dict[str, Ledger] = {}
    limit = settings.exposures.limit_mb * 2**20
    for hospital in data.hospitals:
        say(f"preparing {hospital.name}, {len(hospital.train)} patients")
        trainer, ledger = build_trainer(
            settings, directory, hospital, network, device, about["run"], view, ring, canaries
        )
        name = hospital.name
        masks, sent = None, None
        if job:
            masks = job.clients[name]
            if settings.exposures.record:
                sent = Recording(directory.hospital(name) / "contributions", limit)
        clients[name] = Client(name, trainer, layout, masks, sent)
        if ledger:
            ledgers[name] = ledger

    recording = None
    if settings.exposures.record:
        recording = Recording(directory.exposures, limit)
    inner = InProcessTransport({name: client.handle for name, client in clients.items()})
    transport = RecordingTransport(inner, recording)
    simulation = Simulation(
        settings=settings,
        directory=directory,
        server=_server(settings, transport, layout, job, tuple(clients), shared),
        clients=clients,
        transport=transport,
        network=network,
        data=data,
        ledgers=ledgers,
        device=device,
        notes=[
            *data.warnings,
            *_small_hospitals(data),
            *_foreign_encoders(settings),
            *_shared_noise(settings, ring),
            *_canaries(canaries),
        ],
        started=started,
    )
    if resume:
        simulation.restore()
        simulation.fit_to_budget()
    if recording:
        rules, roster = (job.rules, job.roster) if job else (None, None)
        noise = ring.noise if ring else None
        finished = simulation.server.finished
        jobs.append(
            directory.exposures, jobs.Job(recording.messages, finished, roster, rules, noise)
        )
    return simulation


def settings_of(directory: Path) -> Settings:
    """The settings a run was made with.

    Raises:
        RunError: no run there, or run.json does not hold settings of this version.
    """
    recorded = RunDirectory.open(directory).read_json("run.json")
    try:
        return Settings.model_validate_json(json.dumps(recorded["settings"]))
    except (KeyError, TypeError, ValidationError) as error:
        raise RunError(
            f"{directory / 'run.json'} does not hold the settings of a run",
            hint="it is damaged, or another version of securefed wrote it; make the run again",
        ) from error


def _shared_noise(settings: Settings, ring: RingCode | None) -> list[str]:
    if ring is None:
        return []
    return [
        f"hospitals share out the noise: epsilon holds as long as {ring.noise.counted} of a "
        "round's hospitals add theirs and keep it to themselves "
        f"(privacy.colluding: {settings.privacy.colluding})"
    ]


def _canaries(canaries: CanarySecret | None) -> list[str]:
    if canaries is None:
        return []
    return [
        f"a run for auditing: some of {len(canaries)} made-up records, each by its own coin, are "
        f"among the patients of {canaries.hospital}; do not use the model for anything else"
    ]


def _small_hospitals(data: FederatedData) -> list[str]:
    return [
        f"{each.name} has too few patients to hold any out; it trains only"
        for each in data.hospitals
        if not each.test
    ]


def _foreign_encoders(settings: Settings) -> list[str]:
    if settings.data.manifest is None or settings.model.initialisation != "public":
        return []
    return ["the shipped encoders have seen phantoms only; on real scans they may be of no use"]


@dataclass(frozen=True)
class _SecureJob:
    """What the server and all clients agree on for secure aggregation, and the clients' side."""

    roster: Roster
    rules: JobRules
    clients: dict[str, SecureSumClient]


def _secure_job(settings: Settings, layout: Layout, names: list[str]) -> _SecureJob | None:
    if not settings.secure_aggregation.enabled:
        return None
    identities = {name: IdentityKey.generate() for name in names}
    roster = Roster({name: identity.public for name, identity in identities.items()})
    rules = secure_rules(settings, layout.words)
    clients = {
        name: SecureSumClient(name, identity, roster, rules)
        for name, identity in identities.items()
    }
    return _SecureJob(roster, rules, clients)


def _server(
    settings: Settings,
    transport: Transport,
    layout: Layout,
    job: _SecureJob | None,
    clients: tuple[str, ...],
    shared: NDArray[np.float64],
) -> Server:
    federation = settings.federation
    minimum, deadline_s = federation.minimum_clients, federation.timeout_s
    summation: Summation
    if job:
        summation = SecureSummation(transport, layout, job.roster, job.rules, minimum, deadline_s)
    else:
        if isinstance(layout, DistributedLayout):
            raise ConfigurationError("privacy.placement: distributed needs secure aggregation")
        summation = PlainSummation(transport, layout, minimum, deadline_s)
    plan = Plan(
        clients=clients,
        rounds=federation.rounds,
        clients_per_round=federation.clients_per_round,
        evaluate_every=federation.evaluate_every,
        seed=settings.seed,
    )
    strategy = build_strategy(federation.strategy, federation.server_learning_rate)
    return Server(plan, summation, strategy, shared)
