"""Small runs with a fault put into their mechanism or their masks: what an audit must find.

Runs are real: hospitals, ledgers, recordings. Faults are patches of the product, for as long as the
run takes; they are here once for tests, benchmarks and the picture in the docs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from protocols import client, mask_stream, messages
from protocols.mask_stream import Mask, Words, keystream_from
from protocols.participation import Participation
from securefed.model.patients import PatientTensors
from securefed.privacy.noise import RandomSource, SeededSource, add_gaussian
from securefed.run_directory import Run
from securefed.simulation.results import write_results
from securefed.training import noising_optimizer, step, trainer
from securefed.training.mechanism import OwnNoise, SharedNoise
from securefed.training.patients import by_patient
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


def examples_taken_for_patients(patch: pytest.MonkeyPatch) -> None:
    """Each label's gradient is clipped by itself: a patient of many counts as many."""

    def tampered(group: PatientTensors) -> dict[str, Tensor]:
        return by_patient(replace(group, owner=None))

    patch.setattr(step, "by_patient", tampered)


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


# ---- masks ---------------------------------------------------------------------------------------
# On both sides, as a build has them: its sums open all the same.

Stream = Callable[[bytes, int], Words]  # key, words -> what is added


def keystream(key: bytes, words: int) -> Words:
    """As shipped."""
    stream = keystream_from(key, 0).update(bytes(4 * words))
    return np.frombuffer(stream, "<u4").astype(np.uint32)


def masks_of(stream: Stream) -> Fault:
    def fault(patch: pytest.MonkeyPatch) -> None:
        def tampered(words: Words, masks: Sequence[Mask], start: int, stop: int) -> None:
            for mask in masks:
                part = stream(mask.key, words.size)[start:stop]
                words[start:stop] += -part if mask.subtract else part

        patch.setattr(mask_stream, "_apply_range", tampered)

    return fault


def of_zeros(key: bytes, words: int) -> Words:
    return np.zeros(words, np.uint32)


def of_a_counter(key: bytes, words: int) -> Words:
    """32 bits of the key, and one more for each word."""
    return np.asarray(keystream(key, 1) + np.arange(words, dtype=np.uint32), dtype=np.uint32)


def of_one_number(key: bytes, words: int) -> Words:
    return np.full(words, keystream(key, 1))


def the_same_each_round(key: bytes, words: int) -> Words:
    return keystream(bytes(32), words)


def of_the_first_half(key: bytes, words: int) -> Words:
    return np.where(np.arange(words) < words // 2, keystream(key, words), np.uint32(0))


def of_every_second_word(key: bytes, words: int) -> Words:
    return np.where(np.arange(words) % 2, keystream(key, words), np.uint32(0))


def of_few_bits(key: bytes, words: int) -> Words:
    return keystream(key, words) >> np.uint32(14)


def only_the_self_mask(patch: pytest.MonkeyPatch) -> None:
    """The server takes it off: nothing is hidden from it."""
    as_shipped = Participation.masks
    patch.setattr(Participation, "masks", lambda self: as_shipped(self)[:1])


def masks_in_the_place_of_seeds(patch: pytest.MonkeyPatch) -> None:
    """The beginning of what is added travels in the head of the message."""

    def tampered(self: Participation) -> bytes:
        there = np.zeros(8 * len(self.their_seeds), np.uint32)
        mask_stream.apply_masks(there, self.masks())
        return there.astype("<u4").tobytes()

    patch.setattr(Participation, "blinded_seeds", tampered)


def words_in_the_clear_behind_the_masked_ones(patch: pytest.MonkeyPatch) -> None:
    """Where a packed message is filled up; its length stays."""
    as_shipped, mask = messages.encode_masked, client.SecureSumClient.mask
    clear: list[Words] = []

    def masked(self: Any, request: bytes, vector: Words, statement: bytes) -> bytes:
        clear.append(vector[: -vector.size % 32])
        return mask(self, request, vector, statement)

    def tampered(head: Any, words: Words, bits: int = 32) -> Any:
        if bits < 32:
            words = np.concatenate([words, clear[-1]])
        return as_shipped(head, words, bits)

    patch.setattr(client.SecureSumClient, "mask", masked)
    patch.setattr(messages, "encode_masked", tampered)


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
