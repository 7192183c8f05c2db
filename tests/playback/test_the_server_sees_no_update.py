"""Under masks no hospital's update is in what the server saw: tried by searching all of it.

A run with known updates is recorded, with a dropout in one round. Then every byte that the server
received or sent, and what it can make of the masked vectors by arithmetic (differences between
rounds, sums of any hospitals, all of it with and without the opened sum), is searched for pieces of
any hospital's update in any encoding. The same search must find everything where it is: in a run
without masks, in the hospitals' own records, and behind masks that were made wrongly on purpose.

A piece is two neighbouring values, 8 bytes. False alarm: masked words are uniform, so a piece
stands at a given place with probability 2^-64. With below 1e5 pieces at below 1e7 places the
whole search is wrong with probability below 1e-7. Masks come from the operating system, not from a
seed, so these are chances per test run.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.messages import decode_masked
from securefed.errors import RunError
from securefed.playback.recorded import RecordedRun
from securefed.playback.server import replay
from securefed.record.recording import content, sightings
from securefed.run_directory import Run
from securefed.simulation.results import write_results
from securefed.wire.contribution import Contribution, ContributionLayout
from securefed.wire.messages import decode_reply
from tests.tiny import finish, settings_with, start

Vector = NDArray[np.float32]
Words = NDArray[np.uint32]
Sent = dict[tuple[str, int], Vector]
ENDIANNESS: tuple[Literal["little", "big"], ...] = ("little", "big")

ROUNDS, PATIENTS, DROPPED = 3, 10, ("hospital-2", 2)
Z = 5.0  # two-sided tail of a normal: 5.7e-7


@dataclass(frozen=True)
class Federation:
    """A recorded run and the updates that went into it."""

    path: Path
    layout: ContributionLayout
    updates: Sent = field(repr=False)

    def ring(self, name: str, number: int) -> Words:
        """An update as it enters the ring, (P,)."""
        part = Contribution(self.updates[name, number], PATIENTS, 5)
        return self.layout.encode(part)[: self.layout.parameters]

    def wire(self) -> list[bytes]:
        """Every message."""
        folder = self.path / "exposures"
        return [content(folder, seen) for seen in sightings(folder)]


def record(path: Path, *, masked: bool) -> Federation:
    settings = settings_with(
        data={"phantom": {"patients": PATIENTS, "test_patients": 4}},
        training={"max_slices": 2},
        privacy={"dp": False},
        federation={"rounds": ROUNDS, "strategy": "fedavg"},
        # All 32 bits: of packed words no piece stands as it is in a message, masked or not.
        secure_aggregation={"max_patients": 16, "enabled": masked, "rounding_error": 1e-9},
    )
    simulation = start(settings(), path)
    updates: Sent = {}
    for name, hospital in simulation.hospitals.items():
        train = hospital.trainer.contribute

        def watched(round_number: int, name: str = name, train: Any = train) -> Vector:
            if (name, round_number) == DROPPED:
                raise RunError("away")
            updates[name, round_number] = train(round_number)
            return updates[name, round_number]

        hospital.trainer.contribute = watched  # type: ignore[method-assign]
    finish(simulation)
    write_results(simulation, simulation.evaluate(), None)
    layout = simulation.hospitals["hospital-1"].trainer.layout
    assert isinstance(layout, ContributionLayout)
    return Federation(path, layout, updates)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return record(tmp_path_factory.mktemp("secure") / "run", masked=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return record(tmp_path_factory.mktemp("plain") / "run", masked=False)


@pytest.fixture(scope="module")
def masked(secure: Federation) -> dict[tuple[str, int], Words]:
    """(client, round) -> the masked update words as the server received them, (P,)."""
    folder, found = secure.path / "exposures", {}
    for seen in sightings(folder):
        if (seen.stage, seen.direction) == ("work", "up") and seen.round <= ROUNDS:
            body = decode_reply(content(folder, seen)).body
            if body:
                words = decode_masked(body, secure.layout.words)[1]
                found[seen.client, seen.round] = words[: secure.layout.parameters]
    assert found.keys() == secure.updates.keys()
    return found


# ---- the search --------------------------------------------------------------------------------


def forms(update: Vector, ring: Words) -> dict[str, bytes]:
    """Every form in which an update could stand in a message."""
    weighted = update.astype(np.float64) * PATIENTS
    values: dict[str, NDArray[np.generic]] = {
        "float32": update,
        "float64": update.astype(np.float64),
        "weighted float32": weighted.astype(np.float32),
        "weighted float64": weighted,
        "ring": ring,
    }
    found = {}
    for name, each in values.items():
        for order in ENDIANNESS:
            found[f"{name}, {order}-endian"] = each.astype(each.dtype.newbyteorder(order)).tobytes()
    return found


def eights(data: bytes, step: int = 1) -> NDArray[np.uint64]:
    """Every run of 8 bytes that begins at a multiple of `step`, each as a number."""
    if len(data) < 8:
        return np.zeros(0, np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), 8)[::step]
    return np.unique(np.ascontiguousarray(runs).view(np.uint64))


def pieces(encoded: bytes, step: int) -> NDArray[np.uint64]:
    """The runs that are evidence: zeros and long signs stand in messages for other reasons."""
    found = eights(encoded, step)
    bits = np.unpackbits(found.view(np.uint8).reshape(-1, 8), axis=1)
    return found[np.count_nonzero(np.diff(bits, axis=1), axis=1) >= 10]


def everywhere(haystacks: Iterable[bytes]) -> NDArray[np.uint64]:
    """Every run of 8 bytes at every offset of all of them, sorted."""
    return np.unique(np.concatenate([eights(each) for each in haystacks]))


def among(values: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of the values stand in a sorted array."""
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[places] == values


def share_found(needles: Mapping[str, bytes], there: NDArray[np.uint64]) -> dict[str, float]:
    """Form -> share of its pieces that stand in `there`, for the forms that do at all."""
    found = {}
    for name, data in needles.items():
        wanted = pieces(data, 8 if "64" in name else 4)
        assert len(wanted) >= 20, "too little to look for"
        found[name] = float(among(wanted, there).mean())
    return {name: share for name, share in found.items() if share}


def only(form: str, found: Mapping[str, float]) -> bool:
    """Whether all of one form was found, and of others no more than chance meetings of numbers."""
    return found.get(form) == 1.0 and all(
        share < 0.1 for name, share in found.items() if name != form
    )


def combinations_of(
    masked: Mapping[tuple[str, int], Words], totals: Mapping[int, Words]
) -> Iterator[tuple[str, Words]]:
    """What a server can add and subtract: within each round, and between rounds."""
    for number, total in totals.items():
        names = sorted(name for name, each in masked if each == number)
        for size in range(1, len(names) + 1):
            for chosen in combinations(names, size):
                parts = np.stack([masked[name, number] for name in chosen])
                words = parts.sum(axis=0, dtype=np.uint32)
                yield f"sum of {chosen} in round {number}", words
                yield f"round {number} less {chosen}", total - words
    for (a, first), (b, second) in combinations(sorted(masked), 2):
        difference = masked[a, first] - masked[b, second]
        yield f"{a} in round {first} less {b} in round {second}", difference
        yield "the other way round", np.uint32(0) - difference


def found_by_arithmetic(
    rings: Mapping[tuple[str, int], Words],
    masked: Mapping[tuple[str, int], Words],
    totals: Mapping[int, Words],
) -> set[str]:
    """Places where an update, or a sum or difference of fewer than all, stands unmasked."""
    needles = [np.concatenate([ring, np.uint32(0) - ring]) for ring in rings.values()]
    needles += [rings[a] - rings[b] for a, b in combinations(sorted(rings), 2)]
    needles += [rings[b] - rings[a] for a, b in combinations(sorted(rings), 2)]
    for number in totals:
        names = sorted(name for name, each in rings if each == number)
        for size in range(2, len(names)):  # all together is what the server may know
            for chosen in combinations(names, size):
                parts = np.stack([rings[n, number] for n in chosen])
                needles.append(parts.sum(axis=0, dtype=np.uint32))
    wanted = np.unique(np.concatenate([pieces(each.tobytes(), 4) for each in needles]))
    assert len(wanted) > 1000
    return {
        label
        for label, words in combinations_of(masked, totals)
        if among(eights(words.tobytes(), 4), wanted).any()
    }


# ---- claims ------------------------------------------------------------------------------------


def test_the_search_finds_every_update_of_a_run_without_masks(plain: Federation) -> None:
    there = everywhere(plain.wire())
    assert len(plain.updates) == 4 * ROUNDS - 1
    for (name, number), update in plain.updates.items():
        found = share_found(forms(update, plain.ring(name, number)), there)
        assert only("float32, little-endian", found), (name, number, found)


def test_no_piece_of_any_update_is_in_any_message_of_a_masked_run(secure: Federation) -> None:
    files = list((secure.path / "exposures").iterdir())
    assert len(files) == 3
    there = everywhere(path.read_bytes() for path in files)
    assert len(there) > 100_000
    for (name, number), update in secure.updates.items():
        found = share_found(forms(update, secure.ring(name, number)), there)
        assert found == {}, (name, number)


def test_the_search_finds_the_updates_where_each_hospital_keeps_its_own(
    secure: Federation,
) -> None:
    for (name, number), update in secure.updates.items():
        own = secure.path / "hospitals" / name / "contributions" / "messages.bin"
        there = everywhere([own.read_bytes()])
        found = share_found(forms(update, secure.ring(name, number)), there)
        assert only("ring, little-endian", found), (name, number, found)


def totals_of(secure: Federation) -> dict[int, Words]:
    """Round -> the sum that the server opened, (P,)."""
    found = {}
    recorded = RecordedRun(secure.path, Run.open(secure.path).job, {})
    for number, each in replay(recorded).rounds.items():
        assert each.summed is not None
        assert each.summed.words is not None
        found[number] = each.summed.words[: secure.layout.parameters]
    return found


def test_no_arithmetic_on_masked_vectors_gives_an_update_or_a_part_of_the_sum(
    secure: Federation, masked: dict[tuple[str, int], Words]
) -> None:
    rings = {key: secure.ring(*key) for key in secure.updates}
    totals = totals_of(secure)
    assert found_by_arithmetic(rings, masked, totals) == set()
    # What the server does know is exactly the sum of those who sent something.
    for number, total in totals.items():
        there = [ring for (_, each), ring in rings.items() if each == number]
        assert np.array_equal(total, np.sum(there, axis=0, dtype=np.uint32))
        assert len(there) == (3 if number == DROPPED[1] else 4)


def test_the_same_arithmetic_gives_away_masks_that_were_made_wrongly(secure: Federation) -> None:
    rings = {key: secure.ring(*key) for key in secure.updates}
    totals = totals_of(secure)
    rng = np.random.default_rng(1)
    size = secure.layout.parameters
    fresh = {key: rng.integers(0, 2**32, size, np.uint32) for key in rings}
    good = {key: rings[key] + fresh[key] for key in rings}
    assert found_by_arithmetic(rings, good, totals) == set()

    unmasked = {**good, ("hospital-3", 1): rings["hospital-3", 1]}
    found = found_by_arithmetic(rings, unmasked, totals)
    assert "sum of ('hospital-3',) in round 1" in found

    twice = {**good, ("hospital-3", 3): rings["hospital-3", 3] + fresh["hospital-3", 1]}
    found = found_by_arithmetic(rings, twice, totals)
    assert found == {"hospital-3 in round 1 less hospital-3 in round 3", "the other way round"}

    only_pairwise = {**good, ("hospital-4", 1): rings["hospital-4", 1] - fresh["hospital-3", 1]}
    found = found_by_arithmetic(rings, only_pairwise, totals)
    assert "sum of ('hospital-3', 'hospital-4') in round 1" in found

    opened = {1: rings["hospital-1", 1] + good["hospital-2", 1]}
    assert found_by_arithmetic(rings, good, opened) == {"round 1 less ('hospital-2',)"}


def correlation_z(words: Words, update: Vector) -> float:
    """Pearson correlation over its standard error when there is none."""
    signed = words.view(np.int32).astype(np.float64)
    return float(np.corrcoef(signed, update)[0, 1]) * math.sqrt(update.size)


def test_masked_words_do_not_correlate_with_any_update(
    secure: Federation, masked: dict[tuple[str, int], Words]
) -> None:
    """121 pairs at 5.7e-7 each: false alarm below 7e-5."""
    for words in masked.values():
        for update in secure.updates.values():
            assert abs(correlation_z(words, update)) < Z
    for key, update in secure.updates.items():  # it would show, also behind much noise
        assert correlation_z(secure.ring(*key), update) > 3 * Z
        noisy = masked[key].view(np.int32) / 2**31 + update / np.abs(update).max() * 4
        assert float(np.corrcoef(noisy, update)[0, 1]) * math.sqrt(update.size) > Z


def test_the_exposure_of_the_server_holds_the_sum_only(
    secure: Federation, plain: Federation
) -> None:
    assert Run.open(plain.path).observers().server().sees_updates
    seen = Run.open(secure.path).observers().server()
    assert not seen.sees_updates
    values = [view.mean for view in seen.rounds] + [view.shared for view in seen.rounds]
    assert all(value is not None for value in values)
    there = everywhere(np.asarray(value, np.float32).tobytes() for value in values)
    for (name, number), update in secure.updates.items():
        assert share_found(forms(update, secure.ring(name, number)), there) == {}
