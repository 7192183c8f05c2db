"""Shared parameters as one vector: nothing lost, nothing reordered, nothing absurd let in."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from securefed.errors import RunError
from securefed.model.network import FusionNetwork
from securefed.model.sharing import (
    LARGEST_PARAMETER,
    SHARED_GROUPS,
    flatten,
    load_vector,
    shared_names,
)

MakeNetwork = Callable[..., FusionNetwork]


def _snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


class _Small(nn.Module):
    """Two parameters in a fixed order, and one that no group shares."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(2, 2)
        self.other = nn.Parameter(torch.full((3,), 7.0))


def test_groups_grow_and_all_is_everything(make_network: MakeNetwork):
    network = make_network()
    head, fused, everything = (
        shared_names(network, group) for group in ("classifier", "fusion+classifier", "all")
    )
    assert set(head) < set(fused) < set(everything)
    assert everything == [name for name, _ in network.named_parameters()]
    assert {name.split(".")[0] for name in head} == {"classifier"}
    assert {name.split(".")[0] for name in set(fused) - set(head)} == {"fusion"}


@pytest.mark.parametrize("group", sorted(SHARED_GROUPS))
def test_the_order_is_that_of_the_network_and_the_same_for_every_hospital(
    group: str, make_network: MakeNetwork
):
    here, there = make_network(seed=1), make_network(seed=2)
    names = shared_names(here, group)
    assert names == shared_names(there, group)
    position = {name: i for i, (name, _) in enumerate(here.named_parameters())}
    assert names == sorted(names, key=position.__getitem__)


def test_the_vector_is_the_parameters_one_after_another_row_by_row():
    network = _Small()
    names = ["classifier.weight", "classifier.bias"]
    load_vector(network, names, np.arange(6, dtype=np.float32))
    assert network.classifier.weight.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert network.classifier.bias.tolist() == [4.0, 5.0]
    assert network.other.tolist() == [7.0, 7.0, 7.0]
    vector = flatten(dict(network.named_parameters()), names)
    assert vector.dtype == np.float32
    assert vector.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@given(
    vector=arrays.arrays(
        np.float32, 6, elements=st.floats(-LARGEST_PARAMETER, LARGEST_PARAMETER, width=32)
    )
)
@settings(max_examples=50, deadline=None)
def test_a_vector_comes_back_bit_for_bit(vector: np.ndarray):
    network = _Small()
    names = shared_names(network, "classifier")
    load_vector(network, names, vector)
    assert flatten(dict(network.named_parameters()), names).tobytes() == vector.tobytes()


def test_one_hospitals_parameters_move_into_anothers_and_personal_ones_stay(
    make_network: MakeNetwork,
):
    here, there = make_network(seed=1), make_network(seed=2)
    names = shared_names(here, "fusion+classifier")
    before = _snapshot(there)
    load_vector(there, names, flatten(dict(here.named_parameters()), names))
    for name, parameter in there.named_parameters():
        source = dict(here.named_parameters())[name] if name in names else before[name]
        assert torch.equal(parameter, source), name


def test_a_vector_that_cannot_be_written_to_is_taken_without_a_warning():
    network, vector = _Small(), np.frombuffer(np.ones(6, "<f4").tobytes(), "<f4")
    assert not vector.flags.writeable
    load_vector(network, shared_names(network, "classifier"), vector)
    assert (network.classifier.bias == 1).all()


def test_the_network_does_not_alias_the_received_vector():
    network, vector = _Small(), np.zeros(6, np.float32)
    load_vector(network, shared_names(network, "classifier"), vector)
    vector += 1
    assert not network.classifier.weight.any()


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        (np.zeros(5, np.float32), r"shape \(5,\), expected \(6,\)"),
        (np.zeros(7, np.float32), r"shape \(7,\), expected \(6,\)"),
        (np.zeros((6, 1), np.float32), r"shape \(6, 1\)"),
        (np.zeros(0, np.float32), r"shape \(0,\)"),
        (np.array([0, 0, 0, 0, 0, np.nan], np.float32), "non-finite"),
        (np.array([np.inf, 0, 0, 0, 0, 0], np.float32), "non-finite"),
        (np.array([0, -np.inf, 0, 0, 0, 0], np.float32), "non-finite"),
        (np.array([0, 0, 1.001e4, 0, 0, 0], np.float32), "over the limit 10000"),
        (np.array([0, 0, 0, 0, 0, -3e38], np.float32), "over the limit 10000"),
    ],
)
def test_an_unacceptable_vector_is_refused_and_changes_nothing(vector: np.ndarray, says: str):
    network = _Small()
    before = _snapshot(network)
    with pytest.raises(RunError, match=says):
        load_vector(network, shared_names(network, "classifier"), vector)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_the_largest_allowed_parameter_is_accepted():
    network = _Small()
    load_vector(network, shared_names(network, "classifier"), np.full(6, -1e4, np.float32))
    assert (network.classifier.weight == -1e4).all()
