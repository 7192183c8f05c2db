"""A lying server: what the client as shipped refuses, and what an accepted imprint yields."""

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch

from attacks.errors import AuditError
from attacks.findings import Check
from attacks.head.features import HeadGradient, head_gradient, signatures
from attacks.head.imprint import (
    Bins,
    bins_of_gradient,
    bins_of_patients,
    distances,
    imprint,
    silenced,
    vector_of,
)
from attacks.head.updates import PLAIN, client_update
from attacks.malicious_server.attack import checks
from attacks.subject import Client
from protocols.attestations import statement
from securefed.auditing import malicious_client
from securefed.auditing.malicious_client import clients, kernel_leak
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.sharing import LARGEST_PARAMETER, load_vector, shared_names
from securefed.training.patients import stack
from securefed.wire import messages

DIVIDED = "a secure sum over different parameters (secure)"
RULES = {
    "a step that the plan does not have (plain)": "Unplanned",
    "scores in a step that trains (plain)": "Unplanned",
    "a step that the plan does not have (secure)": "Unplanned",
    "scores in a step that trains (secure)": "Unplanned",
    "the same question in two companies (secure)": "AskedBefore",
    "scores without one hospital (secure)": "NotEverybody",
    "a vector of another length (secure)": "Unplanned",
    "a cohort that is not the plan's (secure)": "Unplanned",
    "a lower threshold (secure)": "ThresholdTooLow",
    "a copy of another hospital's key (secure)": "DuplicateKey",
    "a key that its hospital did not sign (secure)": "BadSignature",
}


@pytest.fixture(scope="module")
def network() -> FusionNetwork:
    torch.manual_seed(0)
    return FusionNetwork(NetworkShape(image_size=32, width=4, attention_width=4)).eval()


@pytest.fixture(scope="module")
def tokens(network: FusionNetwork) -> PatientTensors:
    spec = PhantomSpec(image_size=32, slices=(2, 3))
    made = generate(spec, SiteProfile.draw(spec, 0, 4), 60, 4)
    return tokens_of(network, stack([each.patient for each in made], max_slices=3))


@pytest.fixture(scope="module")
def names(network: FusionNetwork) -> list[str]:
    return shared_names(network, "fusion+classifier")


def _gradient(network: FusionNetwork, names: list[str], batch: PatientTensors) -> HeadGradient:
    rng = np.random.default_rng(0)
    update = client_update(network, names, batch, PLAIN, rng, encoded=True)
    return head_gradient(network, names, update * (-len(batch) / PLAIN.learning_rate))


# ---- the client as shipped -------------------------------------------------------------------


def every_check(seed: int = 0) -> tuple[Check, ...]:
    return tuple(check for client in clients(seed) for check in checks(client))


@pytest.fixture(scope="module")
def tried() -> tuple[Check, ...]:
    return every_check()


def test_the_client_refuses_all_that_a_sound_client_refuses(tried: tuple[Check, ...]):
    must = [check for check in tried if check.expected]
    # Thirteen and two rules in the clear, thirteen and nine behind secure aggregation, and the sum.
    assert len(must) == 38
    assert [check.name for check in must if not check.refused] == []
    details = {check.name: check.detail for check in must if check.name != DIVIDED}
    broken = {name: details.pop(name) for name in RULES}
    assert broken == RULES
    assert set(details.values()) == {"RunError"}


def test_a_client_that_asks_no_questions_fails_the_checks_of_the_rules(
    monkeypatch: pytest.MonkeyPatch,
):
    """The control: without its rules the same client answers in two companies and without one."""
    monkeypatch.setattr(malicious_client, "Questions", lambda *_: None)
    accepted = {check.name for check in every_check() if check.expected and not check.sound}
    assert {
        "a step that the plan does not have (plain)",
        "scores in a step that trains (plain)",
        "the same question in two companies (secure)",
        "scores without one hospital (secure)",
        "a cohort that is not the plan's (secure)",
    } <= accepted


def test_what_no_client_can_refuse_is_accepted_and_said(tried: tuple[Check, ...]):
    accepted = {check.name: check.detail for check in tried if not check.refused}
    assert set(accepted) == {"imprint parameters (plain)", "imprint parameters (secure)"}
    assert all("only differential privacy" in detail for detail in accepted.values())


def test_different_parameters_make_a_secure_sum_noise(tried: tuple[Check, ...]):
    """The opened sum is noise of 136 dimensions: a cosine of .6 is a false alarm below 1e-12."""
    (check,) = [check for check in tried if check.name == DIVIDED]
    assert "noise" in check.detail
    assert kernel_leak(1) < 0.6


def test_without_the_statement_in_the_masks_the_same_server_gets_one_hospitals_update(
    monkeypatch: pytest.MonkeyPatch,
):
    """The control: the attack is a real one, and the check fails where clients do not bind."""
    monkeypatch.setattr(messages, "statement_of", lambda work: statement())
    assert kernel_leak(0) > 0.9999
    (check,) = [check for check in every_check() if check.name == DIVIDED]
    assert not check.sound
    assert check.detail == "the sum gives one hospital's update away"


def test_noise_is_no_evidence_where_an_honest_sum_does_not_open(monkeypatch: pytest.MonkeyPatch):
    """Clients that bind something of their own each time never sum at all."""
    monkeypatch.setattr(messages, "statement_of", lambda work: os.urandom(32))
    with pytest.raises(AuditError, match="honest secure sum does not open"):
        every_check()


def pretended(
    deliver: Callable[[int, bytes], str],
    oversized: str = "",
    divided: Callable[[], str] | None = None,
) -> Client:
    vector = np.ones(5, np.float32)
    return Client("plain", deliver, lambda: oversized, vector, vector + 1, 9, divided)


def test_a_client_that_refuses_nothing_is_told_from_a_sound_one():
    found = checks(pretended(lambda number, data: "", divided=lambda: ""))
    assert not any(check.sound for check in found if check.expected)
    accepted = [check.detail for check in found if check.expected]
    assert accepted[:-1] == ["accepted"] * 13
    assert "one hospital's" in accepted[-1]


def test_a_client_that_refuses_everything_is_no_evidence():
    with pytest.raises(AuditError, match="refuses honest parameters"):
        checks(pretended(lambda number, data: "RunError", "RunError"))


def test_each_check_has_a_round_of_its_own_except_the_two_that_repeat_one():
    rounds: list[int] = []

    def deliver(number: int, data: bytes) -> str:
        rounds.append(number)
        return ""

    checks(pretended(deliver))
    repeated = [number for number in set(rounds) if rounds.count(number) > 1]
    assert repeated == [1]
    assert rounds.count(1) == 3  # honest, different, past
    assert max(rounds) == len(set(rounds))


# ---- the imprint -----------------------------------------------------------------------------


def test_an_imprint_is_within_what_clients_accept(
    network: FusionNetwork, names: list[str], tokens: PatientTensors
):
    for changed in (imprint(network, tokens, 4), silenced(network)):
        vector = vector_of(changed, names)
        assert np.abs(vector).max() < LARGEST_PARAMETER / 5
        own = FusionNetwork(network.shape)
        load_vector(own, names, vector)
        assert np.array_equal(vector_of(own, names), vector)


def test_bins_are_nested_and_the_first_unit_is_always_on(
    network: FusionNetwork, tokens: PatientTensors
):
    changed = imprint(network, tokens, 4)
    weight = signatures(changed, tokens).places[..., -1]  # (patients, m)
    assert np.allclose(weight[:, 0], 1, atol=1e-5)
    assert (np.diff(weight, axis=1) <= 1e-6).all()


def test_an_imprint_tells_more_of_a_batch_apart_than_honest_parameters(
    network: FusionNetwork, names: list[str], tokens: PatientTensors
):
    changed = imprint(network, tokens[20:], 4)
    apart = {}
    for kind, sent in (("imprint", changed), ("honest", network)):
        output = sent.classifier.output.weight[0].detach().double().numpy()
        known = bins_of_patients(signatures(sent, tokens), output)
        spread = np.nanstd(known.feature.reshape(-1, known.feature.shape[-1]), axis=0)
        apart[kind] = 0
        for start in range(0, 20, 4):
            batch = tokens[start : start + 4]
            seen = bins_of_gradient(_gradient(sent, names, batch), output, 1e-3)
            near = distances(seen, bins_of_patients(signatures(sent, batch), output), spread)
            apart[kind] += int((near < 0.1).sum())
    assert apart["imprint"] >= 6  # of 20
    assert apart["imprint"] >= 3 * max(apart["honest"], 1)


def test_silenced_parameters_have_no_hidden_gradient_at_all(
    network: FusionNetwork, names: list[str], tokens: PatientTensors
):
    gradient = _gradient(silenced(network), names, tokens[:4])
    assert not gradient.rows.any()
    assert gradient.output_bias != 0


def test_a_candidate_without_a_common_bin_is_infinitely_far():
    seen = Bins(np.array([[1.0, 2.0], [np.nan, np.nan]]), np.array([1.0, 0.0]))
    candidates = Bins(
        np.array([[[1.0, 2.0], [5.0, 5.0]], [[np.nan, np.nan], [1.0, 2.0]]]), np.ones((2, 2))
    )
    assert distances(seen, candidates, np.ones(2)).tolist() == [0.0, np.inf]
