"""The membership attacks' controls: an overfit federation where they must succeed, and nulls.

Two hospitals of synthetic tokens train without privacy until they know their patients by heart.
Targets and 16 shadows come from the same replay that shadows of a real run come from, and the
scores from the same functions: if these figures are off their gates, nothing that the family finds
counts. Labels by lot can only be memorised (Zhang et al. 2017), labels by a rule need not be.

    overfit         LiRA against models that memorised labels by lot     must succeed
    random labels   how much better than with labels that follow a rule  must be a rise
    permuted        the overfit scores, membership dealt anew            must find nothing
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from attacks.findings import Control
from attacks.membership import NAME
from attacks.membership.federation_replay import Pool, ReplayPlan
from attacks.membership.head_gradients import HeadShape, Records, place_grid
from attacks.membership.scores import lira_online, logit_confidence
from attacks.membership.shadow_models import balanced_membership, patient_losses, train
from attacks.result import AttackResult, Progress
from attacks.statistics.intervals import auc_by_patient
from attacks.statistics.roc import auc, tpr_at_fpr
from attacks.statistics.targets import Floats, ScoredTargets
from attacks.subject import Hospital, Training
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.strategies.fedadam import FedAdam

SHADOWS, TARGETS = 16, 8
HOSPITALS, PATIENTS = 2, 100  # patients of each hospital's pool, half of them members
WIDTH, ATTENTION_WIDTH, SIDE = 64, 4, 1
NULL_CONFIDENCE = 0.999  # the null interval misses by chance in one audit of 1,000
NETWORK = NetworkShape(image_size=8, width=WIDTH, attention_width=ATTENTION_WIDTH, head_width=24)
TRAINING = Training(
    rounds=60,
    local_steps=1,
    optimizer="sgd",
    learning_rate=0.3,
    clip_norm=None,
    unit="patient",
    shared_noise=False,
    strategy=FedAdam(0.05),
    delta=1e-5,
)


@dataclass(frozen=True)
class FixtureScores:
    """LiRA's scores of the targets' patients, one attacked model after another."""

    targets: tuple[ScoredTargets, ...] = field(repr=False)

    @property
    def auc(self) -> float:
        """Mean over the attacked models."""
        return float(np.mean([auc(each) for each in self.targets]))

    @property
    def tpr_at_one_percent(self) -> float:
        points = [tpr_at_fpr(each, 0.01).tpr for each in self.targets]
        return float(np.mean([point.value for point in points if point is not None]))


def fixture_controls(seed: int, progress: Progress) -> AttackResult:
    """The family's controls, named as the default policy's gates."""
    memorised = lira_on_fixture(seed, True, lambda share: progress(share / 2))
    learnt = lira_on_fixture(seed, False, lambda share: progress((1 + share) / 2))
    rng = np.random.default_rng([seed, 5])
    null = auc_by_patient(memorised.targets[0].permuted(rng), rng)
    overfit = "plain, overfit fixture, 16 shadows"
    return AttackResult(
        controls=(
            Control(NAME, overfit, "auc", memorised.auc),
            Control(NAME, overfit, "tpr at fpr 0.01", memorised.tpr_at_one_percent),
            Control(NAME, "random labels", "auc_rise", memorised.auc - learnt.auc),
            Control(
                NAME,
                "permuted membership",
                "auc",
                null.value,
                null.interval(NULL_CONFIDENCE),
            ),
        ),
        details={"auc_with_labels_by_rule": learnt.auc, "attacked_models": TARGETS},
    )


def lira_on_fixture(seed: int, by_lot: bool, progress: Progress) -> FixtureScores:
    """Train targets and shadows on the fixture and attack the targets.

    Args:
        by_lot: labels drawn by lot; otherwise they follow a rule on the tokens.
    """
    pool, plan = fixture(seed, by_lot)
    shadows = balanced_membership(pool, SHADOWS, seed)
    attacked = balanced_membership(pool, TARGETS, seed + 1)
    inside = torch.cat([shadows, attacked])
    heads = train(plan, pool, inside, seed, progress)
    said = patient_losses(plan.shape, heads, pool)
    confidence = np.stack([logit_confidence(row) for row in said])

    def scores(row: int) -> Floats:
        return lira_online(confidence[row], confidence[:SHADOWS], shadows.numpy())

    rows = range(SHADOWS, SHADOWS + TARGETS)
    return FixtureScores(tuple(ScoredTargets.of(scores(row), inside[row].numpy()) for row in rows))


def fixture(seed: int, by_lot: bool) -> tuple[Pool, ReplayPlan]:
    """The synthetic patients and the settings that overfit them."""
    generator = torch.Generator().manual_seed(seed)
    count = HOSPITALS * PATIENTS
    modalities = NETWORK.modalities
    tokens = torch.stack(
        [torch.randn(count, WIDTH, SIDE**2, generator=generator) for _ in modalities], dim=1
    )
    rule = (tokens[:, 0, 0] + tokens[:, 1, 1]).amax(1) > 1.5
    coin = torch.rand(count, generator=generator) < 0.5
    records = Records(
        modalities=modalities,
        tokens=tokens,
        present=torch.ones(count, len(modalities), dtype=torch.bool),
        first=torch.arange(count + 1),
        label=(coin if by_lot else rule).float(),
        weight=torch.ones(count),
        examples=torch.arange(count + 1),
        coordinates=place_grid(SIDE**2),
    )
    within = torch.arange(count) % PATIENTS
    pool = Pool(
        records=records,
        patient=torch.arange(count),
        hospital=torch.arange(count) // PATIENTS,
        is_member=within < PATIENTS // 2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FusionNetwork(NETWORK)
    shape = HeadShape.of(network)
    parameters = dict(network.named_parameters())
    initial = torch.cat([parameters[name].detach().reshape(-1) for name in shape.places])
    members = _nobody(PATIENTS // 2)
    size = len(members)
    hospital = Hospital("fixture", members, members, 1.0, 0.0, None, size, size)
    plan = ReplayPlan(
        shape=shape,
        initial=initial,
        shared=torch.ones(shape.size, dtype=torch.bool),
        hospitals=tuple(replace(hospital, name=f"fixture-{i}") for i in range(HOSPITALS)),
        training=TRAINING,
    )
    return pool, plan


def _nobody(count: int) -> PatientTensors:
    """Patients without a slice: the fixture's are tokens from the start."""
    modalities = NETWORK.modalities
    images = torch.zeros(count, len(modalities), 0, 1, 1, dtype=torch.uint8)
    present = torch.zeros(count, len(modalities), 0, dtype=torch.bool)
    return PatientTensors(modalities, images, present, torch.zeros(count))
