"""A whole federation in one process: every hospital, the server, real messages between them.

`open_run` builds it from settings, or continues it from a run directory. Each hospital keeps its
files under hospitals/NAME, and the server sees bytes only. Identity keys live in memory for the
life of the process: in a simulation there is nobody else to recognise them tomorrow.
"""

import copy
import json
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protocols.client import SecureSumClient
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from securefed import __version__
from securefed.adversary import Recording
from securefed.config import Settings
from securefed.data.load import FederatedData, HospitalData, load_manifest, manifest_hospitals
from securefed.data.load import phantom_hospitals as make_phantoms
from securefed.data.phantom import PhantomSpec
from securefed.errors import ConfigurationError, PrivacyError, RunError
from securefed.federation.client import Client
from securefed.federation.contribution import ContributionLayout
from securefed.federation.recording import RecordingTransport
from securefed.federation.rounds import Plan, RoundRecord, Server
from securefed.federation.run_directory import (
    SCHEMA,
    RunDirectory,
    read_arrays,
    read_tensors,
    save_arrays,
    save_tensors,
)
from securefed.federation.strategies import Strategy, build_strategy
from securefed.federation.summation import PlainSummation, SecureSummation, Summation
from securefed.federation.transport import InProcessTransport
from securefed.model import public_weights
from securefed.model.network import DualEncoderNetwork, NetworkShape
from securefed.model.sharing import flatten, load_vector, shared_names
from securefed.privacy.accounting import solve_noise_multiplier
from securefed.privacy.ledger import Ledger
from securefed.training.local import LocalPlan, LocalTrainer, PrivateSteps, sample_rate
from securefed.training.patients import PatientTensors, one_slice_records, stack

Say = Callable[[str], None]
View = Callable[[PatientTensors], PatientTensors]
PACKAGES = ("torch", "opacus", "numpy", "cryptography", "safetensors", "msgspec")


@dataclass
class Simulation:
    """A federation ready to run; see `rounds`."""

    settings: Settings
    directory: RunDirectory
    server: Server
    clients: dict[str, Client]
    transport: RecordingTransport
    network: DualEncoderNetwork
    data: FederatedData
    ledgers: dict[str, Ledger]
    device: torch.device
    notes: list[str]
    started: float = field(default_factory=time.perf_counter)
    elapsed_before_s: float = 0.0

    def elapsed_s(self) -> float:
        """Wall seconds of the run so far, earlier parts of a resumed run included."""
        return self.elapsed_before_s + time.perf_counter() - self.started

    def rounds(self) -> Iterator[tuple[RoundRecord, dict[str, Any]]]:
        """Train the rounds that are left; yields each with its line for metrics.jsonl.

        A round is on disk before it is yielded: stopping between two loses nothing.
        """
        for record in self.server.train():
            line = self._account(record)
            self._check_point()
            yield record, line

    def evaluate(self) -> tuple[RoundRecord, dict[str, Any]]:
        """Score the final model with everybody's held-out patients."""
        record = self.server.evaluate()
        return record, self._account(record)

    def spent(self) -> dict[str, float]:
        """Epsilon each hospital's ledger holds, by the headline accountant."""
        return {name: ledger.spent() for name, ledger in self.ledgers.items()}

    def fresh_strategy(self) -> Strategy:
        """The settings' strategy before its first step."""
        federation = self.settings.federation
        return build_strategy(federation.strategy, federation.server_learning_rate)

    def global_network(self) -> DualEncoderNetwork:
        """The initial network with the server's shared parameters."""
        names = shared_names(self.network, self.settings.federation.shared)
        network = copy.deepcopy(self.network)
        load_vector(network, names, self.server.shared.astype(np.float32))
        return network

    def _account(self, record: RoundRecord) -> dict[str, Any]:
        metrics = record.metrics
        epsilon = self.spent()
        line: dict[str, Any] = {
            "round": record.round,
            "client": None,
            "survivors": list(record.survivors),
            "dropped": record.dropped,
            "aborted": record.aborted,
            "patients": record.patients,
            "loss": metrics.loss if metrics else None,
            "auc": metrics.auc if metrics else None,
            "epsilon": max(epsilon.values()) if epsilon else None,
            "bytes_up": sum(self.transport.bytes_up.values()),
            "bytes_down": sum(self.transport.bytes_down.values()),
            "wall_s": record.wall_s,
            "server_s": record.server_s,
        }
        per_client = [
            {
                "round": record.round,
                "client": name,
                "epsilon": epsilon.get(name),
                "bytes_up": self.transport.bytes_up[name],
                "bytes_down": self.transport.bytes_down[name],
                "train_s": self.clients[name].busy_s.get("train", 0.0),
                "protocol_s": self.clients[name].busy_s.get("protocol", 0.0),
            }
            for name in record.cohort
        ]
        self.directory.append_metrics([line, *per_client])
        self.transport.reset()
        return line

    def _check_point(self) -> None:
        finished = self.server.finished
        for name, client in self.clients.items():
            path = self.directory.hospital(name) / f"checkpoint-{finished}.safetensors"
            save_tensors(path, client.trainer.state(), {"round": str(finished)})
        arrays = {"shared": self.server.shared}
        arrays |= {f"strategy.{key}": value for key, value in self.server.strategy.state().items()}
        save_arrays(self.directory.path / f"checkpoint-{finished}.safetensors", arrays)
        # This line makes the check point the current one; the previous files go after it.
        self.directory.write_json(
            "checkpoint.json",
            {"schema": SCHEMA, "round": finished, "elapsed_s": self.elapsed_s()},
        )
        for old in self.directory.path.rglob(f"checkpoint-{finished - 1}.safetensors"):
            old.unlink()


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
        RunError: the run to resume is damaged or its data has changed.
    """
    started = time.perf_counter()
    device = _device(settings.device)
    say("reading patients")
    data = data or load_data(settings)
    names = [hospital.name for hospital in data.hospitals]
    network, weights_sha256 = initial_network(settings)
    shared = shared_names(network, settings.federation.shared)
    shared_vector = flatten(dict(network.named_parameters()), shared).astype(np.float64)
    layout = ContributionLayout(
        parameters=len(shared_vector),
        clients=len(names),
        value_range=settings.secure_aggregation.value_range,
        max_patients=settings.secure_aggregation.max_patients,
    )
    about = _describe(settings, data, weights_sha256, len(shared_vector), device)
    if resume:
        recorded = directory.read_json("run.json")
        _same_run(recorded, about)
        run = str(recorded["run"])
    else:
        run = about["run"]
        directory.write_json("run.json", about)

    # A name of its own for each start: the sums of a resumed run are a new job to the protocol.
    job = uuid.uuid4().hex
    identities = {name: IdentityKey.generate() for name in names}
    roster = Roster({name: identity.public for name, identity in identities.items()})
    rules = JobRules(
        job=job,
        vector_length=layout.words,
        allow_two_party=settings.secure_aggregation.allow_two_party,
        max_rounds=2**31,
    )
    clients: dict[str, Client] = {}
    ledgers: dict[str, Ledger] = {}
    for hospital in data.hospitals:
        say(f"preparing {hospital.name} ({len(hospital.train)} patients)")
        trainer, ledger = build_trainer(settings, directory, hospital, network, device, run, view)
        secure = None
        if settings.secure_aggregation.enabled:
            secure = SecureSumClient(hospital.name, identities[hospital.name], roster, rules)
        clients[hospital.name] = Client(hospital.name, trainer, layout, secure)
        if ledger:
            ledgers[hospital.name] = ledger

    recording = None
    if settings.exposures.record:
        recording = Recording(directory.exposures, settings.exposures.limit_mb * 2**20)
    handlers = {name: client.handle for name, client in clients.items()}
    transport = RecordingTransport(InProcessTransport(handlers), recording)
    federation = settings.federation
    summation: Summation
    if settings.secure_aggregation.enabled:
        summation = SecureSummation(
            transport, layout, roster, rules, federation.minimum_clients, federation.timeout_s
        )
    else:
        summation = PlainSummation(
            transport, layout, federation.minimum_clients, federation.timeout_s
        )
    plan = Plan(
        clients=tuple(names),
        rounds=federation.rounds,
        clients_per_round=federation.clients_per_round,
        evaluate_every=federation.evaluate_every,
        seed=settings.seed,
    )
    strategy = build_strategy(federation.strategy, federation.server_learning_rate)
    simulation = Simulation(
        settings=settings,
        directory=directory,
        server=Server(plan, summation, strategy, shared_vector),
        clients=clients,
        transport=transport,
        network=network,
        data=data,
        ledgers=ledgers,
        device=device,
        notes=list(data.warnings),
        started=started,
    )
    if resume:
        _restore(simulation)
        _fit_to_budget(simulation)
    return simulation


def load_data(settings: Settings) -> FederatedData:
    """The hospitals' patients: phantoms, or those of a manifest."""
    data, federation = settings.data, settings.federation
    if data.manifest is None:
        return make_phantoms(
            phantom_spec(settings),
            federation.clients,
            data.phantom.patients,
            data.phantom.test_patients,
            settings.seed,
        )
    loaded = load_manifest(data.manifest, settings.model.image_size)
    divided = manifest_hospitals(
        loaded,
        hospitals=federation.clients,
        test_share=data.test_fraction,
        seed=settings.seed,
        by=data.partition,
        alpha=data.dirichlet_alpha,
    )
    if len(divided.hospitals) != federation.clients:
        raise ConfigurationError(
            f"{data.manifest} has {len(divided.hospitals)} sites, federation.clients is "
            f"{federation.clients}",
            hint=f"set --clients {len(divided.hospitals)}, or data.partition: iid",
        )
    return divided


def phantom_spec(settings: Settings) -> PhantomSpec:
    """The phantom generator's settings."""
    phantom = settings.data.phantom
    return PhantomSpec(
        image_size=settings.model.image_size,
        contrast=phantom.contrast,
        rho=phantom.dissociated,
        kappa=phantom.single_evidence,
        missing_ct=phantom.missing_ct,
        missing_mri=phantom.missing_mri,
        site_shift=phantom.site_shift,
    )


def initial_network(settings: Settings) -> tuple[DualEncoderNetwork, str | None]:
    """The network every hospital starts from, and the SHA-256 of its public weights, if any."""
    model = settings.model
    torch.manual_seed(settings.seed)
    network = DualEncoderNetwork(
        NetworkShape(
            encoder=model.encoder,
            image_size=model.image_size,
            width=model.width,
            attention_width=model.attention_width,
            head_width=model.head_width,
        )
    )
    if model.initialisation == "random":
        return network, None
    return network, public_weights.load(network, public_weights.shipped())


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("device: cuda is not available here", hint="use --device cpu")
    available = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(available if name == "auto" else name)


def build_trainer(
    settings: Settings,
    directory: RunDirectory,
    hospital: HospitalData,
    network: DualEncoderNetwork,
    device: torch.device,
    run: str,
    view: View | None = None,
) -> tuple[LocalTrainer, Ledger | None]:
    """A hospital's trainer and its ledger (None without DP)."""
    if len(hospital.train) > settings.secure_aggregation.max_patients:
        raise ConfigurationError(
            f"{hospital.name} has {len(hospital.train)} training patients, "
            f"secure_aggregation.max_patients is {settings.secure_aggregation.max_patients}",
            hint="raise it, the same for all hospitals",
        )
    train = stack(hospital.train, settings.training.max_slices).to(device)
    test = stack(hospital.test, settings.training.max_slices).to(device)
    if view:
        train, test = view(train), view(test)
    private, ledger = None, None
    if settings.privacy.dp:
        private, ledger = _private_steps(settings, directory, hospital.name, train)
    training, federation = settings.training, settings.federation
    plan = LocalPlan(
        shared=federation.shared,
        train_encoders=settings.model.train_encoders,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        local_steps=training.local_steps,
        batch_size=training.batch_size,
        proximal=federation.proximal if federation.strategy == "fedprox" else 0.0,
        unit=settings.privacy.unit,
        seed=settings.seed,
        private=private,
    )
    own = copy.deepcopy(network).to(device)
    return LocalTrainer(hospital.name, own, train, test, plan, ledger, run), ledger


def _private_steps(
    settings: Settings, directory: RunDirectory, name: str, train: PatientTensors
) -> tuple[PrivateSteps, Ledger]:
    privacy = settings.privacy
    records = len(one_slice_records(train)) if privacy.unit == "image" else len(train)
    if privacy.delta >= 1 / records:
        raise PrivacyError(
            f"privacy.delta {privacy.delta:g} is not below 1 / {records}, the {privacy.unit}s "
            f"of {name}",
            hint=f"set privacy.delta to {0.1 / records:.1g} or smaller",
        )
    # A client that is not asked in every round spends less; the budget holds for all of them.
    steps = settings.federation.rounds * settings.training.local_steps
    multiplier = solve_noise_multiplier(
        privacy.epsilon,
        privacy.delta,
        sample_rate(settings.training.batch_size, records),
        steps,
        privacy.accountant,
    )
    path = directory.hospital(name) / "ledger.sqlite"
    if path.exists():
        ledger = Ledger.open(path)
    else:
        ledger = Ledger.create(
            path,
            client=name,
            unit=privacy.unit,
            delta=privacy.delta,
            budget_epsilon=privacy.epsilon,
            accountant=privacy.accountant,
        )
    return PrivateSteps(privacy.clip_norm, multiplier, privacy.seeded_noise), ledger


def _describe(
    settings: Settings,
    data: FederatedData,
    weights_sha256: str | None,
    shared_parameters: int,
    device: torch.device,
) -> dict[str, Any]:
    if not settings.privacy.dp:
        noise = "none"
    else:
        noise = "seeded" if settings.privacy.seeded_noise else "cryptographic"
    return {
        "schema": SCHEMA,
        "run": uuid.uuid4().hex,
        "securefed": __version__,
        "configuration": settings.configuration,
        "settings": settings.model_dump(mode="json"),
        "data": {
            "kind": "phantom" if settings.data.manifest is None else "manifest",
            "fingerprint": data.fingerprint,
            "hospitals": {
                each.name: {"train": len(each.train), "test": len(each.test)}
                for each in data.hospitals
            },
            "warnings": data.warnings,
        },
        "model": {
            "initialisation": settings.model.initialisation,
            "public_weights_sha256": weights_sha256,
            "shared_parameters": shared_parameters,
        },
        "randomness": {
            "seed": settings.seed,
            "dp_noise_and_sampling": noise,
            "secure_aggregation": "operating system"
            if settings.secure_aggregation.enabled
            else "none",
        },
        "environment": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": str(device),
            "threads": torch.get_num_threads(),
            "packages": {name: version(name) for name in PACKAGES},
        },
    }


def _same_run(recorded: dict[str, Any], now: dict[str, Any]) -> None:
    for key, what in (("settings", "settings"), ("data", "patients"), ("model", "public weights")):
        if recorded.get(key) != now[key]:
            raise RunError(
                f"the {what} differ from those this run started with (run.json: {key})",
                hint="start a new run instead",
            )


def _restore(simulation: Simulation) -> None:
    directory = simulation.directory
    if not (directory.path / "checkpoint.json").exists():
        return  # stopped before the first round ended
    check_point = directory.read_json("checkpoint.json")
    finished = int(check_point["round"])
    simulation.elapsed_before_s = float(check_point["elapsed_s"])
    arrays = read_arrays(directory.path / f"checkpoint-{finished}.safetensors")
    simulation.server.shared = arrays.pop("shared")
    simulation.server.strategy.restore(
        {key.removeprefix("strategy."): value for key, value in arrays.items()}
    )
    simulation.server.finished = finished
    for name, client in simulation.clients.items():
        path = directory.hospital(name) / f"checkpoint-{finished}.safetensors"
        client.trainer.restore(read_tensors(path))


def _fit_to_budget(simulation: Simulation) -> None:
    """Plan fewer rounds where rounds lost in a crash have used up the budget of the last ones."""
    plan, finished = simulation.server.plan, simulation.server.finished
    affordable = plan.rounds - finished
    for name, ledger in simulation.ledgers.items():
        event = simulation.clients[name].trainer.event
        if event is not None:
            while affordable and ledger.would_exceed([event] * affordable):
                affordable -= 1
    if affordable < plan.rounds - finished:
        simulation.server.plan = replace(plan, rounds=finished + affordable)
        simulation.notes.append(
            f"rounds lost in a crash count as spent: the budget holds {affordable} more rounds, "
            f"not {plan.rounds - finished}"
        )


def settings_of(directory: Path) -> Settings:
    """The settings a run was made with."""
    recorded = RunDirectory.open(directory).read_json("run.json")
    return Settings.model_validate_json(json.dumps(recorded["settings"]))
