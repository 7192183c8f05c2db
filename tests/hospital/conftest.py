"""Small hospitals behind real clients: 32-pixel phantoms, real ledgers, real masks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from protocols.client import SecureSumClient
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.hospital.client import Client
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.sharing import flatten, shared_names
from securefed.privacy.ledger import Ledger
from securefed.privacy.sampling import Batch
from securefed.training.mechanism import NoNoise, OwnNoise
from securefed.training.patients import stack
from securefed.training.trainer import LocalPlan, LocalTrainer
from securefed.wire.contribution import ContributionLayout

NAMES = ("north", "south", "west")
SHAPE = NetworkShape(image_size=32, width=4, attention_width=4, head_width=4)

MakeClient = Callable[..., Client]
MakeClients = Callable[..., dict[str, Client]]


def _initial() -> FusionNetwork:
    torch.manual_seed(0)
    return FusionNetwork(SHAPE)


@pytest.fixture(scope="session")
def shared_vector() -> NDArray[np.float32]:
    """The shared parameters every client starts from."""
    network = _initial()
    return flatten(dict(network.named_parameters()), shared_names(network, "classifier"))


@pytest.fixture(scope="session")
def patients() -> dict[str, PatientTensors]:
    """Eight, nine and ten patients."""
    spec = PhantomSpec(image_size=32, slices=(2, 3))
    groups = {}
    for index, name in enumerate(NAMES):
        site = SiteProfile.draw(spec, index, seed=9)
        groups[name] = stack([each.patient for each in generate(spec, site, 8 + index, 9)], 3)
    return groups


@pytest.fixture
def layout(shared_vector: NDArray[np.float32]) -> ContributionLayout:
    return ContributionLayout(len(shared_vector), clients=3, value_range=4.0, max_patients=100)


@pytest.fixture
def roster_and_keys() -> tuple[Roster, dict[str, IdentityKey]]:
    keys = {name: IdentityKey.generate() for name in NAMES}
    return Roster({name: key.public for name, key in keys.items()}), keys


@pytest.fixture
def rules(layout: ContributionLayout) -> JobRules:
    return JobRules("job-1", layout.words, other_lengths=(layout.scores.words,))


@pytest.fixture
def make_client(
    tmp_path: Path,
    patients: dict[str, PatientTensors],
    layout: ContributionLayout,
    roster_and_keys: tuple[Roster, dict[str, IdentityKey]],
    rules: JobRules,
) -> MakeClient:
    """Clients with masks or without, with a ledger of the given budget."""

    def make(
        name: str = "north",
        *,
        secure: bool = False,
        private: bool = True,
        budget: float | None = None,
        layout: ContributionLayout = layout,
        **changes: Any,
    ) -> Client:
        plan = {
            "shared": "classifier",
            "train_encoders": False,
            "optimizer": "sgd",
            "learning_rate": 0.5,
            "local_steps": 1,
            "sampling": Batch(4),
            "proximal": 0.0,
            "unit": "patient",
            "seed": 3,
            "mechanism": OwnNoise(layout, 0.5, 1.0) if private else NoNoise(layout),
            **changes,
        }
        roster, keys = roster_and_keys
        ledger = None
        if private:
            ledger = Ledger.create(
                tmp_path / f"{name}.sqlite",
                client=name,
                unit="patient",
                delta=1e-3,
                budget_epsilon=budget,
                accountant="rdp",
            )
        group = patients[name]
        trainer = LocalTrainer(name, _initial(), group, group, LocalPlan(**plan), ledger, "run")
        masks = SecureSumClient(name, keys[name], roster, rules) if secure else None
        return Client(name, trainer, masks)

    return make


@pytest.fixture
def make_clients(make_client: MakeClient) -> MakeClients:
    """All three clients, with the options of `make_client`."""
    return lambda **options: {name: make_client(name, **options) for name in NAMES}
