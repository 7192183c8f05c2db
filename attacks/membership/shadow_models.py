"""Shadow models of a run: trained like it on other patients, to tell what membership looks like.

The pool is every patient of the audit, training and held-out. Each shadow draws as many members of
each hospital's pool as the run itself trained on there, balanced so that every patient is in and
out of about the same number of shadows as every other. Then it goes through the run's federation
(`federation_replay`) with the run's own settings on features of the frozen encoders, which
are public and computed once. Prepared once per audit and shared by all observers: they differ in
what else they saw, not in the released model.

Where the run trained its encoders too, only the head is shadowed, on the encoders as released:
weaker than a full replay, and said so in the findings. Where encoders are trained and never
released there is no model to query, and `prepare` says that instead.
"""

import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from attacks.errors import TooFewTargets
from attacks.membership.federation_replay import Pool, ReplayPlan, replay
from attacks.membership.head_gradients import Drawn, HeadShape, losses, records_of
from attacks.parallel import Step, side_by_side
from attacks.result import Effort, Progress
from attacks.statistics.targets import Bools, Floats
from attacks.subject import Subject
from securefed.model.network import ENCODER, FusionNetwork
from securefed.model.patients import concatenate
from securefed.model.sharing import Vector, load_vector

SHADOWS = {Effort.QUICK: 16, Effort.DEFAULT: 32, Effort.THOROUGH: 64}
# Slices whose gradients an audit can afford, by measured speed on two cores; beyond it the shadows
# stop before the last round. Enough for the default run in full at the default effort.
AFFORDABLE = {Effort.QUICK: 0.8e6, Effort.DEFAULT: 12e6, Effort.THOROUGH: float("inf")}
GROUP = 8  # shadows that move together, on one thread


@dataclass(frozen=True, eq=False)
class Shadows:
    """Trained shadow models and what they say of every patient of the pool.

    Attributes:
        plan, pool: what was replayed, and with whom.
        inside: (models, patients) bool, who was trained on in which shadow.
        losses: (models, patients) loss under each shadow, the mean over a patient's examples.
        caveats: how the shadows differ from the run, in words; empty where they do not.
    """

    plan: ReplayPlan
    pool: Pool
    inside: Bools = field(repr=False)
    losses: Floats = field(repr=False)
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class NoShadows:
    """Why there can be none."""

    reason: str


@dataclass(frozen=True, eq=False)
class Candidates:
    """Who may have been trained on, and how; `Shadows` has the attributes."""

    plan: ReplayPlan
    pool: Pool
    caveats: tuple[str, ...]


@lru_cache(maxsize=2)
def candidates(subject: Subject, released: bytes) -> Candidates | NoShadows:
    """Every patient behind the encoders that an attacker has; encoded once for all attacks.

    Args:
        released: bytes of the shared parameters of the released model, (P,) float32.

    Raises:
        TooFewTargets: no hospital has held-out patients.
    """
    encoders_released = any(name.startswith(ENCODER) for name in subject.shared)
    if subject.encoders_train and not encoders_released:
        return NoShadows(
            "the encoders are trained and never leave the hospitals, so that nobody outside can "
            "query the released head with an image"
        )
    network, plan = copy.deepcopy(subject.network), replay_plan(subject)
    caveats = []
    if subject.encoders_train:
        load_vector(network, list(subject.shared), np.frombuffer(released, np.float32).copy())
        caveats.append("shadows train the head only, on the encoders as released")
    if not bool(plan.shared.all()):
        caveats.append(
            "fusion stays in the hospitals: the released classifier is queried behind the initial "
            "fusion, in the run and in the shadows alike"
        )
    return Candidates(plan, pool_of(network, subject), tuple(caveats))


def prepare(
    subject: Subject, released: Vector, effort: Effort, progress: Progress
) -> Shadows | NoShadows:
    """Train an audit's shadow models; minutes of work. Same seed, same shadows.

    Args:
        released: shared parameters of the released model, (P,), the same for every observer.

    Raises:
        TooFewTargets: no hospital has held-out patients.
    """
    who = candidates(subject, released.tobytes())
    if isinstance(who, NoShadows):
        return who
    plan, pool, caveats = who.plan, who.pool, list(who.caveats)
    models = SHADOWS[effort]
    rounds = affordable_rounds(plan, pool, models, AFFORDABLE[effort])
    if rounds < subject.training.rounds:
        caveats.append(f"shadows stop after {rounds} of {subject.training.rounds} rounds")
        plan = replace(plan, training=replace(plan.training, rounds=rounds))
    inside = balanced_membership(pool, models, subject.seed)
    heads = train(plan, pool, inside, subject.seed, progress)
    said = patient_losses(plan.shape, heads, pool)
    return Shadows(plan, pool, inside.numpy(), said, tuple(caveats))


def replay_plan(subject: Subject) -> ReplayPlan:
    """The run's settings as a replay takes them."""
    shape = HeadShape.of(subject.network)
    parameters = dict(subject.network.named_parameters())
    shared = set(subject.shared)
    return ReplayPlan(
        shape=shape,
        initial=torch.cat([parameters[name].detach().reshape(-1) for name in shape.places]),
        shared=torch.cat([torch.full((parameters[n].numel(),), n in shared) for n in shape.places]),
        hospitals=subject.hospitals,
        training=subject.training,
        others=sum(parameters[n].numel() for n in subject.shared if n not in shape.places),
    )


def pool_of(network: FusionNetwork, subject: Subject) -> Pool:
    """Every patient of the subject, encoded.

    Raises:
        TooFewTargets: no hospital has held-out patients.
    """
    if not any(len(hospital.held_out) for hospital in subject.hospitals):
        raise TooFewTargets(
            "no hospital has held-out patients, and members cannot be told from nobody",
            hint="hold patients out: data.test_fraction",
        )
    groups = [g for h in subject.hospitals for g in (h.train, h.held_out)]
    everybody = concatenate([subject.encode(network, group) for group in groups])
    each_slice = subject.training.unit == "image"
    records = records_of(everybody, each_slice=each_slice)
    patient = torch.arange(everybody.patients)
    if each_slice:
        patient = everybody.patient.repeat_interleave(everybody.real.sum(1))
    sizes = [(h.train.patients, h.held_out.patients) for h in subject.hospitals]
    return Pool(
        records=records,
        patient=patient,
        hospital=torch.repeat_interleave(torch.tensor([sum(pair) for pair in sizes])),
        is_member=torch.cat([torch.arange(a + b) < a for a, b in sizes]),
    )


def affordable_rounds(plan: ReplayPlan, pool: Pool, models: int, slices: float) -> int:
    """Rounds that `models` shadows can replay for at most `slices` gradients of a slice; >= 1."""
    each = len(pool.records.tokens) / len(pool)  # slices per patient
    patients = sum(h.sample_rate * h.train.patients for h in plan.hospitals)
    per_round = models * plan.training.local_steps * patients * each
    return int(max(1, min(plan.training.rounds, slices // max(per_round, 1))))


def balanced_membership(pool: Pool, models: int, seed: int) -> Tensor:
    """Who is in which shadow: (models, patients) bool, the run's own number per hospital.

    Each shadow takes the patients that were in the fewest shadows so far, ties by lot. So in every
    hospital the counts of any two patients differ by one at most.
    """
    inside = torch.zeros(models, len(pool), dtype=torch.bool)
    rng = np.random.default_rng([seed, 1])
    for hospital in range(int(pool.hospital.max()) + 1):
        patients = np.flatnonzero((pool.hospital == hospital).numpy())
        size = int(pool.is_member[pool.hospital == hospital].sum())
        taken = np.zeros(len(patients))
        for model in range(models):
            chosen = np.lexsort((rng.random(len(patients)), taken))[:size]
            taken[chosen] += 1
            inside[model, patients[chosen]] = True
    return inside


def train(plan: ReplayPlan, pool: Pool, inside: Tensor, seed: int, progress: Progress) -> Tensor:
    """Heads of all shadows after the whole run.  # (models, size)"""

    def group(start: int, told: Step) -> Tensor:
        models = range(start, min(start + GROUP, len(inside)))
        seeds = [_seed(seed, model) for model in models]
        return replay(plan, pool, inside[models.start : models.stop], seeds, told)

    starts = range(0, len(inside), GROUP)
    return torch.cat(side_by_side(group, starts, steps=plan.training.rounds, progress=progress))


def _seed(seed: int, model: int) -> int:
    return int(np.random.SeedSequence([seed, 2, model]).generate_state(1, np.uint64)[0] >> 1)


def patient_losses(shape: HeadShape, heads: Tensor, pool: Pool) -> Floats:
    """Mean loss over each patient's records, under every head.  # (models, patients)"""
    everybody = torch.arange(len(pool.records))
    drawn = Drawn(torch.zeros_like(everybody), everybody)
    counts = torch.bincount(pool.patient, minlength=len(pool)).double()

    def of_one(row: int, told: Step) -> Floats:
        with torch.no_grad():
            each = losses(shape, heads[row : row + 1], pool.records, drawn).double()
        told()
        return (torch.zeros_like(counts).index_add_(0, pool.patient, each) / counts).numpy()

    return np.stack(side_by_side(of_one, range(len(heads)), steps=1, progress=lambda _: None))
