"""Hospitals that lie to the secure sum cost the run a round, and nobody but themselves more."""

from typing import Any

import msgspec
import numpy as np
import pytest

from protocols import messages as protocol
from protocols.client import SecureSumClient
from protocols.identity import IdentityKey, Roster
from protocols.parameters import JobRules
from securefed.errors import RoundAborted
from securefed.hospital.client import Client
from securefed.model.scores import COUNTS
from securefed.server.summation import SecureSummation, Summed
from securefed.simulation.in_process import InProcessTransport
from securefed.training.trainer import TrainingSet
from securefed.wire import messages
from securefed.wire.contribution import ContributionLayout
from securefed.wire.messages import Request

NAMES = ("east", "mid", "north", "south", "west")
LAYOUT = ContributionLayout(parameters=3, clients=5, value_range=4.0, max_patients=100)
SHARED = np.zeros(3, np.float32)


class StubTrainer:
    """Patients without pictures: the update is one everywhere."""

    declared = TrainingSet(patients=10, records=10)
    batch_parts = 5
    layout = LAYOUT

    def __init__(self) -> None:
        self.trained: list[int] = []

    def receive(self, shared: np.ndarray) -> None:
        """Nothing to keep."""

    def evaluate(self) -> np.ndarray:
        return np.zeros(COUNTS, np.int64)

    def contribute(self, round_number: int) -> np.ndarray:
        self.trained.append(round_number)
        return np.ones(3, np.float32)


class SealsGarbage(SecureSumClient):
    def share(self, request: bytes) -> bytes:
        shares = msgspec.msgpack.decode(super().share(request), type=protocol.Shares)
        boxes = [
            msgspec.structs.replace(box, sealed=bytes(protocol.BOX_BYTES)) for box in shares.boxes
        ]
        return protocol.encode(msgspec.structs.replace(shares, boxes=boxes))


class GivesAnotherShare(SecureSumClient):
    def unmask(self, request: bytes) -> bytes:
        opening = msgspec.msgpack.decode(super().unmask(request), type=protocol.Opening)
        wrong = [msgspec.structs.replace(s, value=bytes(33)) for s in opening.self_masks]
        return protocol.encode(msgspec.structs.replace(opening, self_masks=wrong))


class GivesAnothersKeys(SecureSumClient):
    def advertise(self, request: bytes) -> bytes:
        advert = msgspec.msgpack.decode(super().advertise(request), type=protocol.Advert)
        return protocol.encode(msgspec.structs.replace(advert, sender=advert.sender + 1))


class Hospitals:
    """Five of them, of which the first may lie."""

    def __init__(self, liar: type[SecureSumClient], minimum: int = 4) -> None:
        keys = {name: IdentityKey.generate() for name in NAMES}
        roster = Roster({name: key.public for name, key in keys.items()})
        rules = JobRules("job", LAYOUT.words, other_lengths=(LAYOUT.scores.words,))
        self.trainers = {name: StubTrainer() for name in NAMES}
        clients: dict[str, Any] = {}
        for name in NAMES:
            kind = liar if name == NAMES[0] else SecureSumClient
            masks = kind(name, keys[name], roster, rules)
            trainer: Any = self.trainers[name]
            clients[name] = Client(name, trainer, masks).handle
        transport = InProcessTransport(clients)
        self.summation = SecureSummation(transport, LAYOUT, roster, rules, minimum, 30.0)

    def sum(self, number: int) -> Summed:
        shared = messages.vector_to_bytes(SHARED + np.float32(number))
        work = Request(round=number, stage="work", train=True, shared=shared)
        return self.summation.sum(work, NAMES, None)


def test_who_seals_garbage_is_out_at_once_and_costs_nobody_a_round():
    hospitals = Hospitals(SealsGarbage)
    for number in (1, 2):
        summed = hospitals.sum(number)
        assert summed.survivors == NAMES[1:]
        assert summed.total.patients == 40
    assert all(hospitals.trainers[name].trained == [1, 2] for name in NAMES[1:])


def test_who_gives_another_share_is_named_and_the_round_is_kept():
    hospitals = Hospitals(GivesAnotherShare)
    summed = hospitals.sum(1)
    assert summed.survivors == NAMES
    assert summed.dropped["east"].startswith("BadShare")
    assert hospitals.sum(2).survivors == NAMES[1:]


def test_who_gives_keys_in_another_s_name_is_named_also_where_nobody_is_to_be_spared():
    with pytest.raises(RoundAborted, match="4 of the hospitals asked answered") as lost:
        Hospitals(GivesAnothersKeys, minimum=5).sum(1)
    assert str(lost.value.hint).startswith("east: ")
    assert Hospitals(GivesAnothersKeys).sum(1).survivors == NAMES[1:]
