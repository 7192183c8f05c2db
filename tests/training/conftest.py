"""Tiny hospitals: 32-pixel phantoms, some without a modality, and a network that fits them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.privacy.ledger import Ledger
from securefed.privacy.sampling import Batch
from securefed.training.mechanism import OwnNoise
from securefed.training.patients import stack
from securefed.training.trainer import LocalPlan, LocalTrainer
from securefed.wire.contribution import ContributionLayout

MakeTrainer = Callable[..., LocalTrainer]

# No contribution is encoded by a trainer: which layout its mechanism has makes no difference.
LAYOUT = ContributionLayout(1, clients=4, value_range=4.0, max_patients=100)
PRIVATE = OwnNoise(LAYOUT, clip_norm=0.5, noise_multiplier=1.0, secret_noise=False)
PLAN = LocalPlan(
    shared="classifier",
    train_encoders=False,
    optimizer="sgd",
    learning_rate=0.5,
    local_steps=2,
    sampling=Batch(6),
    proximal=0.0,
    unit="patient",
    seed=11,
    mechanism=PRIVATE,
)


def _phantoms(count: int, seed: int) -> PatientTensors:
    spec = PhantomSpec(image_size=32, slices=(2, 4), missing_query=0.2, missing_context=0.2)
    site = SiteProfile.draw(spec, 0, seed)
    return stack([each.patient for each in generate(spec, site, count, seed)], max_slices=4)


@pytest.fixture(scope="session")
def phantoms() -> PatientTensors:
    """Sixteen patients of 2 to 4 slices; some have one modality only."""
    return _phantoms(16, seed=5)


@pytest.fixture(scope="session")
def held_out() -> PatientTensors:
    """Ten more."""
    return _phantoms(10, seed=6)


@pytest.fixture(scope="session")
def initial() -> FusionNetwork:
    """What every hospital starts from; do not change it."""
    torch.manual_seed(0)
    return FusionNetwork(NetworkShape(image_size=32, width=4, attention_width=4, head_width=4))


@pytest.fixture
def network(initial: FusionNetwork) -> FusionNetwork:
    """A copy of the initial network."""
    return copy.deepcopy(initial)


@pytest.fixture
def make_trainer(
    tmp_path: Path, initial: FusionNetwork, phantoms: PatientTensors, held_out: PatientTensors
) -> MakeTrainer:
    """Trainers that differ from PLAN where the test says; private ones get a ledger of their own.

    `budget` limits the ledger, `ledger` uses an existing one, `train` replaces the patients.
    """
    made = iter(range(1000))

    def make(
        *,
        budget: float | None = None,
        ledger: Ledger | None = None,
        train: PatientTensors = phantoms,
        name: str = "clinic",
        **changes: Any,
    ) -> LocalTrainer:
        plan = LocalPlan(**{**vars(PLAN), **changes})
        if plan.mechanism.event(1.0, 1) and ledger is None:
            ledger = Ledger.create(
                tmp_path / f"{next(made)}.sqlite",
                client=name,
                unit=plan.unit,  # type: ignore[arg-type]
                delta=1e-3,
                budget_epsilon=budget,
                accountant="rdp",
            )
        return LocalTrainer(name, copy.deepcopy(initial), train, held_out, plan, ledger, "run-1")

    return make
