"""Head leakage: exact where it must be, blind where it must be, and N/A said aloud."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attacks.errors import TooFewTargets
from attacks.findings import Finding
from attacks.head.attack import PLANS, attack
from attacks.head.controls import NULL, POSITIVE, controls
from attacks.head.features import (
    HeadGradient,
    head_gradient,
    label_count,
    named_parts,
    row_ratio,
    signatures,
)
from attacks.head.matching import build_filter
from attacks.head.updates import PLAIN, Mechanism, client_update
from attacks.result import AttackResult, Effort
from attacks.subject import Hospital, Subject, Training
from attacks.verdicts import gate_complaint
from securefed.auditing.policy import read_policy
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.exposure import Exposure, RoundView
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.sharing import flatten, shared_names
from securefed.model.strategies.fedavg import FedAvg
from securefed.training.patients import stack

SHAPE = NetworkShape(image_size=32, width=4, attention_width=4, head_width=4)
TRAINING = Training(
    rounds=2,
    local_steps=1,
    optimizer="sgd",
    learning_rate=0.3,
    clip_norm=None,
    unit="patient",
    shared_noise=False,
    strategy=FedAvg(),
    delta=1e-5,
)


@pytest.fixture(autouse=True, scope="module")
def _small_plan() -> Iterator[None]:
    """As quick as --quick, with pictures that are not worth looking at."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(PLANS, Effort.QUICK, replace(PLANS[Effort.QUICK], iterations=5))
        yield


@pytest.fixture(scope="module")
def network() -> FusionNetwork:
    torch.manual_seed(0)
    return FusionNetwork(SHAPE).eval()


@pytest.fixture(scope="module")
def patients() -> PatientTensors:
    """Of 2 to 4 slices, some without a modality."""
    spec = PhantomSpec(image_size=32, slices=(2, 4), missing_query=0.2, missing_context=0.2)
    made = generate(spec, SiteProfile.draw(spec, 0, 5), 140, 5)
    return stack([each.patient for each in made], max_slices=4)


@pytest.fixture(scope="module")
def subject(network: FusionNetwork, patients: PatientTensors) -> Subject:
    hospitals = tuple(
        Hospital(name, patients[rows], patients[held], 0.2, 0.0, None, 20, 4)
        for name, rows, held in (
            ("north", slice(0, 20), slice(40, 90)),
            ("south", slice(20, 40), slice(90, 140)),
        )
    )
    names = tuple(shared_names(network, "fusion+classifier"))
    return Subject("plain", network, names, False, hospitals, TRAINING, seed=1)


def _exposure(
    subject: Subject, size: int, mechanism: Mechanism = PLAIN, observer: str = "server"
) -> Exposure:
    """Two rounds in which each hospital trained on its first `size` patients."""
    rng = np.random.default_rng(0)
    network = copy.deepcopy(subject.network)
    shared = flatten(dict(network.named_parameters()), list(subject.shared))
    updates = {}
    for hospital in subject.hospitals:
        batch = tokens_of(network, hospital.train[:size])
        updates[hospital.name] = client_update(
            network, subject.shared, batch, mechanism, rng, encoded=True
        )
    counts = dict.fromkeys(updates, 20)
    mean = np.stack(list(updates.values())).mean(axis=0, dtype=np.float32)
    views = tuple(RoundView(n, shared, updates, counts, mean, tuple(updates)) for n in (1, 2))
    return Exposure(observer, (), subject.configuration, views, shared)  # type: ignore[arg-type]


def _named(result: AttackResult) -> dict[tuple[str, str], Finding]:
    return {(finding.method, finding.scene): finding for finding in result.findings}


def _value(finding: Finding) -> float:
    assert finding.estimate is not None, finding.absent
    return finding.estimate.value


def _head_gradient(
    subject: Subject, batch: PatientTensors, mechanism: Mechanism = PLAIN
) -> HeadGradient:
    tokens = tokens_of(subject.network, batch)
    rng = np.random.default_rng(0)
    update = client_update(subject.network, subject.shared, tokens, mechanism, rng, encoded=True)
    scale = -len(batch) / mechanism.learning_rate
    return head_gradient(subject.network, subject.shared, update * scale)


# ---- what the row ratio is -------------------------------------------------------------------


def test_the_ratio_of_one_patient_is_the_pooled_mean_over_the_places_where_a_unit_is_on(
    subject: Subject,
):
    """Against a loop over places, written from the formula alone."""
    network = subject.network
    one = tokens_of(network, subject.hospitals[0].train[3:4])
    with torch.no_grad():
        joined = network.fusion(one.images, one.present)[0]
        present = one.real[0]
        places = joined[present].flatten(0, 1).double().numpy()
        head = network.classifier
        weight, bias = (p.double().numpy() for p in (head.hidden.weight, head.hidden.bias))
        output = head.output.weight[0].double().numpy()
    logits = np.array([output @ np.maximum(weight @ x + bias, 0) for x in places])
    pooling = np.exp(logits) / np.exp(logits).sum()
    seen = row_ratio(_head_gradient(subject, subject.hospitals[0].train[3:4]))
    for unit in range(len(bias)):
        on = [weight[unit] @ x + bias[unit] > 0 for x in places]
        share = pooling * on
        if not any(on):
            assert np.isnan(seen[unit]).all()
            continue
        assert np.allclose(seen[unit], share @ places / share.sum(), atol=1e-3)
    assert np.isfinite(seen).all(axis=1).sum() >= 2


def test_clipping_does_not_hide_a_patient_who_is_alone(subject: Subject):
    patient = subject.hospitals[0].train[:1]
    plain = row_ratio(_head_gradient(subject, patient))
    clipped = row_ratio(_head_gradient(subject, patient, Mechanism(0.3, 0.05, 0.0)))
    on = np.isfinite(plain).all(axis=1) & np.isfinite(clipped).all(axis=1)
    assert on.sum() >= 2
    assert np.allclose(plain[on], clipped[on], atol=0.02)


def test_a_gradient_is_the_residual_weighted_sum_of_signatures(subject: Subject):
    batch = subject.hospitals[1].train[:3]
    known = signatures(subject.network, tokens_of(subject.network, batch))
    expected = np.einsum("k,kmd->md", known.residual, known.rows)
    seen = _head_gradient(subject, batch)
    assert np.allclose(seen.rows, expected, atol=1e-5)
    assert np.isclose(seen.output_bias, (known.probability - known.label).sum(0), atol=1e-5)


def test_parts_of_a_shared_vector_are_the_parameters(subject: Subject):
    vector = flatten(dict(subject.network.named_parameters()), list(subject.shared))
    parts = named_parts(subject.network, subject.shared, vector)
    assert tuple(parts) == subject.shared
    for name, parameter in subject.network.named_parameters():
        if name in parts:
            assert np.array_equal(parts[name], parameter.detach().double().numpy())


def test_padding_has_no_say_in_a_signature(subject: Subject):
    group = subject.hospitals[0].train[:6]

    more = torch.full_like(group.images[:, :, :1], 200)
    absent = torch.zeros_like(group.present[:, :, :1])
    padded = replace(
        group,
        images=torch.cat([group.images, more], dim=2),
        present=torch.cat([group.present, absent], dim=2),
    )
    short, long = (
        signatures(subject.network, tokens_of(subject.network, g)) for g in (group, padded)
    )
    assert np.allclose(short.rows, long.rows, atol=1e-6)


def test_tokens_are_those_of_the_network(subject: Subject):
    group = subject.hospitals[0].train[:5]
    with torch.no_grad():
        encoded = subject.network.encode(group.images.float() / 255)
    tokens = tokens_of(subject.network, group).images
    assert torch.allclose(tokens[group.present], encoded[group.present], atol=1e-5)


# ---- labels ----------------------------------------------------------------------------------


def test_labels_are_counted_exactly_at_a_known_probability():
    residuals = np.array([0.5, 0.5, -0.5, 0.5, -0.5])  # two positives of five at probability .5
    count = label_count(residuals.sum(keepdims=True), 5, np.full((10, 1), 0.5))
    assert [each.tolist() for each in (count.lowest, count.estimate, count.highest)] == 3 * [[2.0]]


def test_the_range_of_the_label_count_holds_the_truth(subject: Subject):
    batch = subject.hospitals[0].train[:8]
    known = signatures(subject.network, tokens_of(subject.network, batch))
    count = label_count(_head_gradient(subject, batch).output_bias, 8, known.probability)
    positives = float(known.label.sum())
    assert 0 < positives < 8
    assert count.lowest - 1e-4 <= positives <= count.highest + 1e-4
    assert abs(count.estimate - positives) < 0.5


# ---- matching --------------------------------------------------------------------------------


def test_a_filter_without_reference_patients_is_refused(subject: Subject):
    few = signatures(subject.network, tokens_of(subject.network, subject.hospitals[0].train[:9]))
    with pytest.raises(TooFewTargets, match="9 reference patients"):
        build_filter(few, 1.0, 1e-6)


# ---- the attack ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(subject: Subject) -> AttackResult:
    """The attack on updates of one patient each."""
    one = replace(
        subject,
        hospitals=tuple(replace(h, train=h.train[:1], sample_rate=1.0) for h in subject.hospitals),
    )
    return attack(one, _exposure(one, 1), Effort.QUICK, lambda share: None)


def test_updates_of_single_patients_identify_all_of_them(alone: AttackResult):
    finding = _named(alone)["row ratio", "as configured"]
    assert _value(finding) == 1.0
    assert finding.metric == "identification"


@pytest.fixture(scope="module")
def shares() -> list[float]:
    """Progress of `plain`."""
    return []


@pytest.fixture(scope="module")
def plain(subject: Subject, shares: list[float]) -> AttackResult:
    return attack(subject, _exposure(subject, 4), Effort.QUICK, shares.append)


def test_the_worst_case_identifies_a_patient_who_is_alone_and_fewer_of_four(plain: AttackResult):
    found = _named(plain)
    one = _value(found["row ratio, batch 1", "worst case"])
    four = _value(found["row ratio, batch 4", "worst case"])
    assert one == 1.0
    assert 1 / 51 < four < one


def test_sparse_recovery_says_why_it_cannot_take_many_places_apart(plain: AttackResult):
    finding = _named(plain)["sparse recovery, batch 4", "worst case"]
    assert finding.estimate is None
    assert not finding.applies
    assert "full rank 4" in str(finding.absent)


def test_under_strong_noise_identification_is_chance(subject: Subject):
    private = replace(
        subject,
        hospitals=tuple(replace(h, noise_multiplier=4.0) for h in subject.hospitals),
        training=replace(TRAINING, clip_norm=1.0),
        configuration="dp",
    )
    noisy = _exposure(private, 4, Mechanism(0.3, 1.0, 4.0))
    found = _named(attack(private, noisy, Effort.QUICK, lambda share: None))
    # Chance is 1/51: of 40 targets more than 6 are found with a probability below 1e-4.
    assert _value(found["row ratio", "as configured"]) <= 0.15
    worst = found["row ratio, batch 1", "worst case"].estimate
    assert worst is not None
    assert worst.value <= 0.3  # 14 trials: more than 4 with a probability below 1e-4


def test_the_same_seed_gives_the_same_findings(subject: Subject, plain: AttackResult):
    again = attack(subject, _exposure(subject, 4), Effort.QUICK, lambda share: None)
    assert again.findings == plain.findings
    assert again.details == plain.details
    for one, other in zip(plain.pictures, again.pictures, strict=True):
        assert np.array_equal(one.reconstruction, other.reconstruction)


def test_pictures_are_images_of_one_slice_with_known_and_surrogate_encoders(plain: AttackResult):
    assert len(plain.pictures) == 2
    for picture in plain.pictures:
        for image in (picture.true, picture.reconstruction, picture.decoy):
            assert image.shape == (32, 32)
            assert image.min() >= 0
            assert image.max() <= 1
        assert not np.array_equal(picture.true, picture.reconstruction)
    assert [each["encoders"] for each in plain.details["pictures"]] == ["known", "surrogate"]


def test_progress_rises_from_near_0_to_1(plain: AttackResult, shares: list[float]):
    assert plain.findings
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[-1] == pytest.approx(1.0)
    assert len(shares) > 20


def test_only_the_mean_is_attacked_where_no_update_is_visible(subject: Subject):
    seen = _exposure(subject, 4)
    views = tuple(replace(view, updates={}, patients={}) for view in seen.rounds)
    result = attack(subject, replace(seen, rounds=views), Effort.QUICK, lambda share: None)
    assert result.details["as configured"]["attacked"] == "mean of the updates"
    assert _named(result)["row ratio", "as configured"].estimate is not None


def test_an_imprint_is_the_servers_to_send(subject: Subject, plain: AttackResult):
    assert _value(_named(plain)["imprint, batch 4", "worst case"]) > 0.1
    peer = attack(subject, _exposure(subject, 4, observer="peer"), Effort.QUICK, lambda share: None)
    finding = _named(peer)["imprint", "worst case"]
    assert not finding.applies
    assert finding.absent == "only the server sends parameters"


def test_an_imprint_spread_over_rounds_goes_no_step_longer_than_the_longest(subject: Subject):
    seen = _exposure(subject, 4)
    still = _named(attack(subject, seen, Effort.QUICK, lambda share: None))
    name = ("imprint spread over rounds", "worst case")
    assert "no honest step" in str(still[name].absent)
    one, other = seen.rounds
    moved = one.shared + np.float32(0.5 / len(one.shared) ** 0.5)
    walking = replace(seen, rounds=(one, replace(other, shared=moved)))
    short = _named(attack(subject, walking, Effort.QUICK, lambda share: None))[name]
    assert "rounds, and the run has no more" in str(short.absent)
    longer = replace(subject, training=replace(TRAINING, rounds=40))
    result = attack(longer, walking, Effort.QUICK, lambda share: None)
    details = result.details[name[0]]
    assert details["longest step between imprints"] <= details["longest honest step"]
    assert details["rounds to get there"] + details["rounds harvested"] <= 40
    assert _named(result)[name].estimate is not None


def test_a_peer_does_not_attack_itself(subject: Subject):
    seen = _exposure(subject, 4, observer="peer")
    views = tuple(
        replace(view, updates={"north": view.updates["north"]}, mean=None) for view in seen.rounds
    )
    own = replace(seen, rounds=views, members=("north",))
    result = attack(subject, own, Effort.QUICK, lambda share: None)
    assert all(not finding.applies for finding in result.findings)


def test_an_outsider_saw_no_update_and_the_finding_says_so(subject: Subject):
    nothing = Exposure("outsider", (), "plain", (), np.zeros(3, np.float32))
    result = attack(subject, nothing, Effort.QUICK, lambda share: None)
    assert {finding.scene for finding in result.findings} == {"as configured", "worst case"}
    for finding in result.findings:
        assert finding.estimate is None
        assert not finding.applies
        assert "outsider saw no update" in str(finding.absent)


def test_adam_steps_are_no_gradients_and_the_finding_says_so(subject: Subject):
    adam = replace(subject, training=replace(TRAINING, optimizer="adam"))
    result = attack(adam, _exposure(subject, 4), Effort.QUICK, lambda share: None)
    assert all("Adam" in str(finding.absent) for finding in result.findings)


def test_too_few_held_out_patients_leave_a_gap_not_a_pass(subject: Subject):
    few = replace(
        subject,
        hospitals=tuple(replace(h, held_out=h.held_out[:10]) for h in subject.hospitals),
    )
    result = attack(few, _exposure(subject, 4), Effort.QUICK, lambda share: None)
    for finding in result.findings:
        assert finding.applies
        assert "held-out decoys" in str(finding.absent)


# ---- controls --------------------------------------------------------------------------------


def test_the_controls_meet_the_gates_of_the_default_policy():
    gates = [gate for gate in read_policy().gates if gate.attack == "head leakage"]
    assert {POSITIVE, NULL} < {gate.control for gate in gates}
    found = controls(Effort.QUICK, 0, lambda share: None).controls
    assert [gate_complaint(gate, found) for gate in gates] == [None] * 5
    assert sum(control.control == POSITIVE for control in found) == 4  # batches of 1 to 4


def test_the_positive_control_falls_off_its_gate_when_the_update_is_noise(
    monkeypatch: pytest.MonkeyPatch,
):
    def noise(network: FusionNetwork, shared: list[str], *_: object, **__: object) -> Vector:
        size = sum(p.numel() for n, p in network.named_parameters() if n in shared)
        return np.random.default_rng(3).normal(size=size).astype(np.float32)

    monkeypatch.setattr("attacks.head.controls.client_update", noise)
    found = controls(Effort.QUICK, 0, lambda share: None).controls
    (gate,) = [gate for gate in read_policy().gates if gate.control == POSITIVE]
    assert gate_complaint(gate, found)


Vector = NDArray[np.float32]
