"""Small runs with a fault put into their mechanism: what the direct tests of an audit must find.

Runs are real: hospitals, ledgers, recordings. Faults are patches of the product, for as long as the
run takes; they are here once for tests, benchmarks and the picture in the docs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from securefed.privacy.noise import RandomSource, SeededSource, add_gaussian
from securefed.run_directory import Run
from securefed.simulation.results import write_results
from securefed.training import noising_optimizer, step, trainer
from securefed.training.mechanism import OwnNoise, SharedNoise
from securefed.training.private import poisson_sample, private_gradients
from securefed.training.trainer import LocalTrainer
from tests.tiny import finish, settings_with, start

ROUNDS = 12
Fault = Callable[[pytest.MonkeyPatch], None]

settings = settings_with(
    data={"phantom": {"patients": 24, "test_patients": 2}},
    training={"batch_size": 6, "max_slices": 1},
    privacy={"epsilon": 8.0, "seeded_noise": True},
    secure_aggregation={"enabled": False},
    federation={"rounds": ROUNDS, "clients": 3, "evaluate_every": 100},
    seed=3,
)


def honest(patch: pytest.MonkeyPatch) -> None:
    """No fault."""


def noise_times(factor: float) -> Fault:
    def fault(patch: pytest.MonkeyPatch) -> None:
        def tampered(value: Tensor, std: float, source: RandomSource) -> Tensor:
            return add_gaussian(value, factor * std, source)

        patch.setattr(noising_optimizer, "add_gaussian", tampered)

    return fault


def drawn_twice_as_often(patch: pytest.MonkeyPatch) -> None:
    def tampered(patients: int, sample_rate: float, source: RandomSource) -> Any:
        return poisson_sample(patients, 2 * sample_rate, source)

    patch.setattr(trainer, "poisson_sample", tampered)


def noise_of_one_sign(patch: pytest.MonkeyPatch) -> None:
    def tampered(value: Tensor, std: float, source: RandomSource) -> Tensor:
        return value + source.normal(value.shape, std).abs()

    patch.setattr(noising_optimizer, "add_gaussian", tampered)


def the_same_noise_every_round(patch: pytest.MonkeyPatch) -> None:
    def tampered(value: Tensor, std: float, source: RandomSource) -> Tensor:
        return add_gaussian(value, std, SeededSource(1, "again", *value.shape))

    patch.setattr(noising_optimizer, "add_gaussian", tampered)


def no_noise_in_round(silent: int) -> Fault:
    def fault(patch: pytest.MonkeyPatch) -> None:
        as_shipped = OwnNoise.contribute

        def tampered(self: OwnNoise, trainer: Any, round_number: int) -> Any:
            own = replace(self, noise_multiplier=0.0) if round_number == silent else self
            return as_shipped(own, trainer, round_number)

        patch.setattr(OwnNoise, "contribute", tampered)

    return fault


def second_rounds_left_out_of_the_ledger(patch: pytest.MonkeyPatch) -> None:
    as_shipped = LocalTrainer._reserve

    def tampered(self: LocalTrainer, round_number: int) -> None:
        if round_number % 2:
            as_shipped(self, round_number)

    patch.setattr(LocalTrainer, "_reserve", tampered)


def patients_not_clipped(patch: pytest.MonkeyPatch) -> None:
    def tampered(*args: Any, clip_norm: float, noise_multiplier: float, **options: Any) -> Any:
        wide = 1e6
        noise = noise_multiplier * clip_norm / wide
        return private_gradients(*args, clip_norm=wide, noise_multiplier=noise, **options)

    patch.setattr(step, "private_gradients", tampered)


def one_hospital_without_its_share(patch: pytest.MonkeyPatch) -> None:
    as_shipped = SharedNoise.contribute

    def tampered(self: SharedNoise, trainer: Any, round_number: int) -> Any:
        if trainer.name != "hospital-2":
            return as_shipped(self, trainer, round_number)
        sample, source = trainer.draw(round_number, 0)
        total = np.zeros(self.code.noise.dimension, np.int64)
        for rows in sample.gradient_rows():
            total += self.code.quantise(rows, round_number, source).sum(axis=0)
        return total.astype(np.uint32)

    patch.setattr(SharedNoise, "contribute", tampered)


@contextmanager
def broken(fault: Fault) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)
        yield


def run_with(fault: Fault, path: Path, **sections: Any) -> Run:
    """A finished run with a fault in it."""
    with broken(fault):
        simulation = start(settings(**sections), path)
        finish(simulation)
        write_results(simulation, simulation.evaluate(), None)
    return Run.open(path)
