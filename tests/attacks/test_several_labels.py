"""A patient of several labelled examples is one record to every attack: one loss, one gradient.

Of two labels, and of several classes.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from attacks import labels
from attacks.head.features import head_gradient, row_ratio, signatures
from attacks.head.matching import build_filter
from attacks.head.updates import PLAIN, client_update
from attacks.inversion.matching import draw_trials
from attacks.inversion.quality import LEAST_DECOYS
from attacks.inversion.scenes import Seen, label_parts
from attacks.membership.federation_replay import replay
from attacks.membership.head_gradients import Drawn, HeadShape, losses, records_of, summed_gradients
from attacks.membership.planted import joined
from attacks.membership.shadow_models import balanced_membership, pool_of, replay_plan
from attacks.one_row import in_one_row
from attacks.properties import attack as properties
from attacks.source.attack import people
from attacks.subject import Hospital, Subject, Training
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.data.samples import Example, Patient
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors, concatenate
from securefed.model.sharing import flatten, shared_names
from securefed.model.strategies.fedavg import FedAvg
from securefed.privacy.noise import SeededSource
from securefed.privacy.sampling import Batch
from securefed.training.mechanism import NoNoise
from securefed.training.noising_optimizer import CLIPPED
from securefed.training.patients import one_slice_records, stack
from securefed.training.per_patient import trained_parameters
from securefed.training.step import Step
from securefed.training.trainer import LocalPlan, LocalTrainer
from securefed.wire.contribution import ContributionLayout

SHAPE = NetworkShape(image_size=32, width=4, attention_width=4, head_width=4)
CLASSES = ("healthy", "glioma", "meningioma")
TRAINING = Training(
    rounds=3,
    local_steps=1,
    optimizer="sgd",
    learning_rate=0.3,
    clip_norm=None,
    unit="patient",
    shared_noise=False,
    strategy=FedAvg(),
    delta=1e-5,
)


def of_slices(patient: Patient, tumour: np.ndarray, label: int) -> Patient:
    """The patient with a label for each slice."""
    parts = tuple(Example(str(k), label * int(shown), (k,)) for k, shown in enumerate(tumour))
    return patient.with_examples(parts)


def phantoms(
    count: int, seed: int, classes: tuple[str, ...], missing: float = 0.2
) -> PatientTensors:
    """Patients of 2 to 4 labelled slices, some without a modality; tumours of every class."""
    spec = PhantomSpec(image_size=32, slices=(2, 4), missing_query=missing, missing_context=missing)
    made = generate(spec, SiteProfile.draw(spec, 0, seed), count, seed)
    kinds = max(1, len(classes) - 1)
    patients = [
        of_slices(each.patient, each.tumour, 1 + number // 2 % kinds)
        for number, each in enumerate(made)
    ]
    return stack(patients, max_slices=4)


@pytest.fixture(scope="module", params=[(), CLASSES], ids=["two labels", "classes"])
def classes(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture(scope="module")
def network(classes: tuple[str, ...]) -> FusionNetwork:
    torch.manual_seed(0)
    network = FusionNetwork(replace(SHAPE, classes=classes)).eval()
    for encoder in network.encoders:
        encoder.requires_grad_(False)
    return network


@pytest.fixture(scope="module")
def group(classes: tuple[str, ...]) -> PatientTensors:
    found = phantoms(60, 5, classes)
    assert found.patients == 60 < len(found)
    assert set(found.label.tolist()) == set(range(len(classes) or 2))
    assert {0.0, 0.5} < set(labels.shares(found, len(classes) or 1).flatten().tolist())
    return found


@pytest.fixture(scope="module")
def subject(network: FusionNetwork, classes: tuple[str, ...]) -> Subject:
    hospitals = tuple(
        Hospital(name, phantoms(n, n, classes), phantoms(30, n + 1, classes), 1.0, 0.0, None, n, n)
        for name, n in (("north", 12), ("south", 20))
    )
    names = tuple(shared_names(network, "fusion+classifier"))
    return Subject("plain", network, names, False, hospitals, TRAINING, seed=1)


@pytest.fixture(scope="module")
def complete(subject: Subject, classes: tuple[str, ...]) -> Subject:
    """The same hospitals, whose patients have every modality: decoys for each other."""
    hospitals = tuple(
        replace(
            each,
            train=phantoms(each.weight, each.weight, classes, missing=0),
            held_out=phantoms(30, each.weight + 1, classes, missing=0),
        )
        for each in subject.hospitals
    )
    return replace(subject, hospitals=hospitals)


def product_gradient(
    network: FusionNetwork, tokens: PatientTensors, clip_norm: float | None
) -> Tensor:
    """The product's own sum over patients, clipped or not, as one vector."""
    network = copy.deepcopy(network)
    trained = trained_parameters(network)
    step = Step(network, trained, tokens, None, torch.tensor([]), list(trained), True, 1.0)
    if clip_norm is None:
        found = step.mean_gradient()
    else:
        found = step.noised_gradient(clip_norm, 0.0, SeededSource(0, "nobody"))
    return torch.cat([value.reshape(-1) for value in found.values()])


def head_of(network: FusionNetwork, shape: HeadShape) -> Tensor:
    parameters = dict(network.named_parameters())
    return torch.cat([parameters[name].detach().reshape(-1) for name in shape.places])[None]


# ---- records -----------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_norm", [None, 0.05, 0.3, 1e6])
def test_shadows_sum_patients_as_the_product_does(
    network: FusionNetwork, group: PatientTensors, clip_norm: float | None
) -> None:
    tokens, shape = tokens_of(network, group), HeadShape.of(network)
    records = records_of(tokens, each_slice=False)
    assert len(records) == group.patients
    drawn = Drawn(torch.zeros(len(records), dtype=torch.long), torch.arange(len(records)))
    clip = clip_norm and CLIPPED * clip_norm
    found = summed_gradients(shape, head_of(network, shape), records, drawn, clip)[0]
    expected = product_gradient(network, tokens, clip_norm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6)


def test_a_patient_s_score_is_the_mean_loss_of_its_examples(
    network: FusionNetwork, group: PatientTensors
) -> None:
    tokens, shape = tokens_of(network, group), HeadShape.of(network)
    records = records_of(tokens, each_slice=False)
    chosen = torch.tensor([4, 0, 59, 4])  # in any order, and more than once
    drawn = Drawn(torch.zeros_like(chosen), chosen)
    found = losses(shape, head_of(network, shape), records, drawn)
    for number, loss in zip(chosen, found, strict=True):
        own = tokens.of_patients(number[None])
        with torch.no_grad():
            logits = network(own.images, own.present, encoded=True)
        both = torch.stack([torch.zeros_like(logits), logits], dim=-1)  # of one logit
        several = logits if network.shape.classes else both
        probability = several.softmax(-1)[torch.arange(len(own)), own.label.long()]
        assert float(loss) == pytest.approx(float(-probability.log().mean()), abs=1e-5)


def test_records_that_are_taken_keep_their_examples_and_slices(
    network: FusionNetwork, group: PatientTensors
) -> None:
    tokens = tokens_of(network, group)
    rows = torch.tensor([7, 2, 7])
    some, record = records_of(tokens, each_slice=False).taken(rows)
    expected = records_of(tokens.of_patients(rows), each_slice=False)
    for name in ("tokens", "present", "first", "label", "weight", "examples"):
        assert torch.equal(getattr(some, name), getattr(expected, name)), name
    assert torch.equal(record, tokens.of_patients(rows).patient)


def test_with_slices_as_records_each_has_its_example_s_label(
    network: FusionNetwork, group: PatientTensors
) -> None:
    records = records_of(tokens_of(network, group), each_slice=True)
    alone = one_slice_records(group)
    assert len(records) == len(alone)
    assert torch.equal(records.label, alone.label)
    assert bool((records.weight == 1).all())


def test_the_pool_holds_patients_whatever_the_records_are(subject: Subject) -> None:
    slices = replace(subject, training=replace(TRAINING, unit="image"))
    for each, counted in ((subject, 12 + 30 + 20 + 30), (slices, 12 + 30 + 20 + 30)):
        pool = pool_of(each.network, each)
        assert len(pool) == counted
        assert torch.bincount(pool.hospital).tolist() == [42, 50]
        assert int(pool.is_member.sum()) == 32
        assert int(pool.patient.max()) == counted - 1
        inside = balanced_membership(pool, 4, 0)
        assert inside[:, pool.hospital == 0].sum(1).tolist() == [12] * 4
    hospital, is_member = people(subject.hospitals)
    pool = pool_of(subject.network, subject)
    assert np.array_equal(hospital, pool.hospital.numpy())
    assert np.array_equal(is_member, pool.is_member.numpy())


def test_a_replay_ends_where_the_federation_of_such_patients_ends(subject: Subject) -> None:
    plan, pool = replay_plan(subject), pool_of(subject.network, subject)
    released = replay(plan, pool, pool.is_member[None], [1], lambda: None)[0]
    trainers = [
        LocalTrainer(
            each.name,
            copy.deepcopy(subject.network),
            each.train,
            each.held_out,
            LocalPlan(
                shared="fusion+classifier",
                train_encoders=False,
                optimizer="sgd",
                learning_rate=0.3,
                local_steps=1,
                sampling=Batch(100),
                proximal=0.0,
                unit="patient",
                seed=0,
                mechanism=NoNoise(ContributionLayout(1, 2, 4.0, 100)),
            ),
            None,
            "run",
        )
        for each in subject.hospitals
    ]
    expected = plan.initial.double().numpy()
    for number in range(1, TRAINING.rounds + 1):
        updates = []
        for trainer in trainers:
            trainer.receive(expected.astype(np.float32))
            updates.append(trainer.contribute(number).astype(np.float64))
        expected = expected + np.average(updates, axis=0, weights=[12, 20])
    moved = np.abs(expected - plan.initial.numpy()).max()
    assert moved > 0.01, "nothing was trained"
    np.testing.assert_allclose(released, expected, atol=2e-3 * moved)


def test_planted_copies_have_every_label_wrong(subject: Subject) -> None:
    pool = pool_of(subject.network, subject)
    logits = max(1, len(subject.network.shape.classes))
    planted = joined(pool, np.arange(5), np.array([3, 1]), wrong=logits)
    own, copies = planted.records.taken(torch.arange(5)), planted.records.taken(torch.arange(5, 7))
    true = pool.records.taken(torch.tensor([3, 1]))[0]
    assert torch.equal(own[0].label, pool.records.taken(torch.arange(5))[0].label)
    assert bool((copies[0].label != true.label).all())
    assert set(copies[0].label.tolist()) <= set(range(max(2, logits)))
    assert torch.equal(copies[0].tokens, true.tokens)


# ---- the head ----------------------------------------------------------------------------------


def test_a_patient_alone_in_the_gradient_is_known_by_its_signature(
    network: FusionNetwork, group: PatientTensors
) -> None:
    tokens = tokens_of(network, group)
    names, rng = shared_names(network, "fusion+classifier"), np.random.default_rng(0)
    network = copy.deepcopy(network).requires_grad_(True)
    known = signatures(network, tokens)
    matched = build_filter(known[slice(20, None)], patients=1, noise_std=1e-7)
    several = tokens.patient.bincount()
    assert int(several[:20].min()) > 1
    for number in range(20):
        one = tokens.of_patients(torch.tensor([number]))
        update = client_update(network, names, one, PLAIN, rng, encoded=True)
        gradient = head_gradient(network, names, update / -PLAIN.learning_rate)
        expected = known.residual[number] * known.rows[number]
        assert np.allclose(gradient.rows, expected, atol=1e-6)
        on = np.abs(known.rows[number, :, -1]) > 0.01  # else the quotient is of rounding
        assert np.allclose(row_ratio(gradient)[on], known.ratios[number][on], atol=1e-3)
        cosines = matched.cosines(gradient, known[slice(0, 20)])
        assert cosines.argmax() == number
        assert cosines[number] > 0.99


def test_labels_of_a_batch_are_counted_as_parts_of_patients(
    network: FusionNetwork, group: PatientTensors
) -> None:
    tokens, rng = tokens_of(network, group), np.random.default_rng(0)
    names = shared_names(network, "fusion+classifier")
    network = copy.deepcopy(network).requires_grad_(True)
    known = signatures(network, tokens)
    logits = max(1, len(network.shape.classes))
    assert known.label.shape == known.probability.shape == (60, logits)
    assert np.allclose(known.label, labels.shares(group, logits).numpy())
    if logits > 1:
        assert np.allclose(known.probability.sum(1), 1)
    update = client_update(network, names, tokens, PLAIN, rng, encoded=True)
    gradient = head_gradient(network, names, update * (-60 / PLAIN.learning_rate))
    assert gradient.output_bias == pytest.approx((known.probability - known.label).sum(0), abs=1e-3)


# ---- whole patients ----------------------------------------------------------------------------


def test_a_patient_in_one_row_has_all_slices_and_the_middle_one_s_label(
    group: PatientTensors,
) -> None:
    rows = in_one_row(group)
    assert rows.owner is None
    assert len(rows) == group.patients
    for number in range(group.patients):
        own = group.of_patients(torch.tensor([number]))
        count = len(own)  # of slices, since each is an example
        assert torch.equal(rows.images[number, :, :count], own.images[:, :, 0].transpose(0, 1))
        assert torch.equal(rows.present[number, :, :count], own.present[:, :, 0].T)
        assert not bool(rows.present[number, :, count:].any())
        middle = rows[number : number + 1].middle_slices()
        assert torch.equal(middle.images[0, :, 0], own.images[count // 2, :, 0])
        assert float(middle.label) == float(own.label[count // 2])
    alone = stack([each.patient for each in _made(4)], max_slices=4)
    assert in_one_row(alone) is alone


def _made(count: int):
    spec = PhantomSpec(image_size=32, slices=(2, 4))
    return generate(spec, SiteProfile.draw(spec, 0, 1), count, 1)


def test_targets_of_inversion_are_patients_with_all_their_slices(complete: Subject) -> None:
    rng = np.random.default_rng(0)
    trials = draw_trials(complete.hospitals, ["north"], 99, rng)
    assert len({trial.keys[0] for trial in trials}) == len(trials) == 12
    for trial in trials:
        assert len(trial.candidates) == LEAST_DECOYS + 1
        assert trial.candidates.owner is None
        assert trial.examples.patients == LEAST_DECOYS + 1
        assert trial.decoys.patients == LEAST_DECOYS
        hospital, held_out, number = trial.keys[0]
        assert (hospital, held_out) == ("north", False)
        own = complete.hospitals[0].train.of_patients(torch.tensor([number]))
        assert int(trial.candidates.real[0].sum()) == len(own)


def test_properties_are_of_patients_and_positives_the_share_of_their_labels(
    network: FusionNetwork, group: PatientTensors
) -> None:
    levels = properties.median_brightness([group])
    mix = max(1, len(network.shape.classes))
    found = properties.properties_of(group, levels, mix)
    names = properties.names_of(network.shape)
    assert found.shape == (group.patients, len(names))
    assert names[:mix] == (tuple(f"class {name}" for name in CLASSES) if mix > 1 else names[:1])
    assert np.allclose(found[:, :mix], labels.shares(group, mix).numpy())
    found = found[:, mix:]
    for number in (0, 17, 59):
        own = group.of_patients(torch.tensor([number]))
        without = (~own.present.flatten(2).any(2).any(0)).tolist()
        assert found[number, :2].astype(bool).tolist() == without
    assert 0.3 < found[:, 2:].mean() < 0.6, "about half are brighter than the median"


def test_patients_are_taken_in_the_order_that_is_asked_for(group: PatientTensors) -> None:
    asked = torch.tensor([9, 0, 9, 31])
    found = group.of_patients(asked)
    assert found.patients == 4
    parts = [group.of_patients(number[None]) for number in asked]
    together = concatenate(parts)
    for name in ("images", "present", "label", "patient", "weight"):
        assert torch.equal(getattr(found, name), getattr(together, name)), name


# ---- labels ------------------------------------------------------------------------------------


def test_a_mixture_has_about_as_many_of_each_label_as_is_said() -> None:
    assert labels.mixture(torch.tensor([0.5]), 4).tolist() == [1, 1, 0, 0]
    assert labels.mixture(torch.tensor([0.0]), 3).tolist() == [0, 0, 0]
    assert labels.mixture(torch.tensor([0.5, 0.25, 0.25]), 4).tolist() == [0, 0, 1, 2]
    assert labels.mixture(torch.tensor([0.0, 1.1, -0.1]), 2).tolist() == [1, 1]


def test_another_label_is_wrong_and_known() -> None:
    assert labels.another(torch.tensor([0.0, 1.0]), 1).tolist() == [1, 0]
    assert labels.another(torch.tensor([0.0, 1.0, 2.0]), 3).tolist() == [1, 2, 0]


def test_a_batch_s_mixture_of_labels_is_read_off_the_last_biases(complete: Subject) -> None:
    network, hospital = copy.deepcopy(complete.network).requires_grad_(True), complete.hospitals[0]
    shared = list(complete.shared)
    start = flatten(dict(network.named_parameters()), shared)
    tokens, rng = tokens_of(network, hospital.train), np.random.default_rng(0)
    mechanism = replace(PLAIN, learning_rate=TRAINING.learning_rate)
    update = client_update(network, shared, tokens, mechanism, rng, encoded=True)
    trials = draw_trials(complete.hospitals, ["north"], 1, rng)
    seen = Seen(("north",), 1, start, update)
    parts = label_parts(complete, network, seen, trials)
    true = labels.shares(hospital.train, len(parts)).mean(0)
    # The probabilities of the decoys stand for those of the batch.
    assert torch.allclose(parts, true, atol=0.05)
    unseen = replace(complete, training=replace(TRAINING, optimizer="adam"))
    even = label_parts(unseen, network, seen, trials)
    assert torch.allclose(even, torch.full_like(even, 1 / max(2, len(even))))
