"""Which coordinates travel: as many in every round, each as often, and nobody's choice."""

import hashlib

import numpy as np
import pytest

from securefed.errors import RunError
from securefed.wire.blocks import BLOCK, Blocks
from securefed.wire.contribution import Contribution, ContributionLayout
from securefed.wire.limits import Limits
from securefed.wire.plain import plain_contribution, plain_update

BLOCKS = Blocks(parameters=1000, sent=130, seed=3)
LAYOUT = ContributionLayout(130, clients=2, value_range=1.0, max_patients=100, blocks=BLOCKS)


@pytest.mark.parametrize(
    ("parameters", "sent"), [(1, 1), (64, 64), (65, 64), (12, 9), (1000, 130), (99, 1)]
)
def test_every_round_has_as_many_coordinates_and_none_twice(parameters: int, sent: int):
    for number in range(1, 50):
        chosen = Blocks(parameters, sent, seed=0).coordinates(number)
        assert chosen.shape == (sent,)
        assert (np.diff(chosen) > 0).all()
        assert 0 <= chosen[0] <= chosen[-1] < parameters


def test_each_coordinate_travels_as_often_as_any_other():
    rounds = 4000
    times = np.zeros(1000)
    for number in range(rounds):
        times[BLOCKS.coordinates(number)] += 1
    # Of 1000 binomial counts one is beyond 5 standard deviations once in 1700 seeds.
    deviation = np.sqrt(rounds * 0.13 * 0.87)
    assert np.abs(times - 0.13 * rounds).max() < 5 * deviation


def test_rounds_and_seeds_differ_and_the_same_round_does_not():
    first = BLOCKS.coordinates(1)
    assert np.array_equal(first, Blocks(1000, 130, 3).coordinates(1))
    assert not np.array_equal(first, BLOCKS.coordinates(2))
    assert not np.array_equal(first, Blocks(1000, 130, 4).coordinates(1))


def test_coordinates_are_drawn_in_blocks():
    chosen = Blocks(64_000, 6_400, 0).coordinates(1)
    runs = 1 + int((np.diff(chosen) > 1).sum())
    assert runs <= 6_400 // BLOCK + 2  # one is cut off, one runs over the end of the circle


def test_the_draw_is_the_same_wherever_it_is_made():
    """From SHAKE128 by hand: hospitals and server may have other versions of anything."""
    said = b"securefed blocks\x003\x001\x001000\x00130"
    words = hashlib.shake_128(said).digest(8 * 126)
    numbers = [int.from_bytes(words[8 * n : 8 * n + 8], "little") for n in range(126)]
    first = sorted(range(125), key=lambda block: numbers[1 + block])[:17]
    places = [8 * block + inside for block in first for inside in range(8)][:130]
    expected = sorted((place + numbers[0]) % 1000 for place in places)
    assert BLOCKS.coordinates(1).tolist() == expected


def test_shares_are_of_all_parameters_and_one_at_least():
    assert [Blocks.of(100, share, 0).sent for share in (0.05, 0.29, 1e-9)] == [5, 29, 1]


def test_what_was_restricted_is_spread_to_its_own_places_again():
    update = np.arange(1, 1001, dtype=np.float32)
    again = BLOCKS.spread(BLOCKS.restrict(update, 7), 7)
    chosen = BLOCKS.coordinates(7)
    assert np.array_equal(again[chosen], update[chosen])
    assert np.count_nonzero(again) == 130


def test_a_sum_of_two_is_their_mean_at_the_rounds_coordinates():
    values = [np.full(130, value, np.float32) for value in (0.25, 0.5)]
    words = [LAYOUT.encode(Contribution(each, 10, 0)) for each in values]
    assert {each.shape for each in words} == {(131,)}
    total = LAYOUT.decode(words[0] + words[1], 7)
    assert total.mean_update is not None
    expected = BLOCKS.spread(np.full(130, 0.375), 7)
    np.testing.assert_allclose(total.mean_update, expected, atol=1e-6)


def test_a_whole_update_is_refused_where_a_share_travels():
    whole = Contribution(np.ones(1000, np.float32), 7, 0)
    with pytest.raises(RunError, match="expected \\(130,\\)"):
        LAYOUT.encode(whole)
    with pytest.raises(RunError, match="wrong length"):
        plain_contribution(plain_update(whole, 1000), 1000, LAYOUT, train=True, number=7)


def test_in_the_clear_the_share_travels_too():
    body = plain_update(Contribution(np.ones(130, np.float32), 7, 0), 130)
    assert len(body) < 130 * 4 + 20
    update, _, _ = plain_contribution(body, 1000, LAYOUT, train=True, number=7)
    assert np.array_equal(np.flatnonzero(update), BLOCKS.coordinates(7))


def test_parameters_that_go_down_are_whole():
    assert Limits(LAYOUT, 4).request("work") >= 4 * 1000
