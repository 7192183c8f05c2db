"""Planted records: a hospital that trains on mislabelled copies of another's patients.

Truth Serum (Tramer et al. 2022, arXiv 2204.00032, section 4): whoever puts copies of a target with
the wrong label into the training data makes the model lean on whether the right one is there too.
What the attacker gains is in the released model, so that LiRA asks it, as of any run, with shadow
models of a federation that holds the same planted records.

Here two hospitals train, the run's own victim and peer, with the run's settings over a few rounds.
The peer's patients are replaced by copies of its targets; it trains on them as it should, clipping
and noise included. The same attack without planting stands beside it. A worst case: the peer has
the targets' exact scans, and half of the federation. What it sends otherwise (updates that are no
gradients) is poisoning, and not covered. Differential privacy of the victim holds whatever others
send, so that its curve bounds this attack too.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks.errors import TooFewTargets
from attacks.family import Case
from attacks.findings import Control, Finding
from attacks.labels import another
from attacks.membership import NAME
from attacks.membership.federation_replay import Pool, ReplayPlan
from attacks.membership.fixture import NULL_CONFIDENCE, fixture
from attacks.membership.scores import lira_online, logit_confidence
from attacks.membership.shadow_models import (
    Candidates,
    NoShadows,
    balanced_membership,
    candidates,
    patient_losses,
    train,
)
from attacks.result import AttackResult, Effort, Progress
from attacks.statistics.intervals import Estimate, auc_by_patient
from attacks.statistics.roc import auc
from attacks.statistics.targets import Bools, Floats, ScoredTargets
from securefed.exposure import Exposure

SHADOWS, ATTACKED = 12, 4
TARGETS, FIXTURE_TARGETS = 60, 50
ROUNDS = {Effort.QUICK: 2, Effort.DEFAULT: 5, Effort.THOROUGH: 40}
FIXTURE_ROUNDS = 20
Patients = NDArray[np.intp]
METHODS = ("lira, records planted", "lira, nothing planted")


@dataclass(frozen=True, eq=False)
class Scene:
    """A victim, a peer and the targets.

    Attributes:
        plan: of the two hospitals alone.
        honest, planted: pools of the victim's patients, then the peer's: its own, or copies.
        targets: (targets,) of the victim's pool.
    """

    plan: ReplayPlan
    honest: Pool
    planted: Pool
    targets: Patients = field(repr=False)

    @classmethod
    def of(
        cls,
        plan: ReplayPlan,
        pool: Pool,
        pair: tuple[int, int],
        rounds: int,
        count: int,
        rng: np.random.Generator,
    ) -> "Scene":
        """Targets are drawn from the pool of the victim, the first of `pair`; at most `count`."""
        victim, peer = pair
        hospital, member = pool.hospital.numpy(), pool.is_member.numpy()
        theirs, own = (
            np.flatnonzero(hospital == victim),
            np.flatnonzero((hospital == peer) & member),
        )
        targets = rng.permutation(len(theirs))[:count]
        copies = np.resize(theirs[targets], len(own))
        two = replace(
            plan,
            hospitals=(plan.hospitals[victim], plan.hospitals[peer]),
            training=replace(plan.training, rounds=min(rounds, plan.training.rounds)),
        )
        planted = joined(pool, theirs, copies, wrong=plan.shape.logits)
        return cls(two, joined(pool, theirs, own), planted, targets)

    @classmethod
    def of_run(cls, case: Case, peer: str, who: Candidates) -> "Scene":
        """The peer's victim is the first other hospital."""
        names = [each.name for each in case.subject.hospitals]
        victim = next(place for place, name in enumerate(names) if name != peer)
        pair, rng = (victim, names.index(peer)), np.random.default_rng([case.subject.seed, 0x7A])
        return cls.of(who.plan, who.pool, pair, ROUNDS[case.effort], TARGETS, rng)


def joined(pool: Pool, victims: Patients, peers: Patients, wrong: int = 0) -> Pool:
    """A pool of two hospitals, patients of `pool`.

    The victim's are members as they were; the peer trains on all that it has.

    Args:
        wrong: logits of a network for which all of the peer's labels are wrong; 0 leaves them.
    """
    order = np.concatenate([victims, peers])
    records = [torch.nonzero(pool.patient == patient).squeeze(1) for patient in order.tolist()]
    owner = torch.arange(len(order)).repeat_interleave(torch.tensor([*map(len, records)]))
    place = (torch.arange(len(order)) >= len(victims)).long()
    of, record = pool.records.taken(torch.cat(records))
    copied = place[owner[record]] == 1
    if wrong:
        of = replace(of, label=torch.where(copied, another(of.label, wrong), of.label))
    return Pool(
        records=of,
        patient=owner,
        hospital=place,
        is_member=pool.is_member[torch.from_numpy(order)] | (place == 1),
    )


def lira(scene: Scene, pool: Pool, seed: int, progress: Progress) -> ScoredTargets:
    """LiRA on the targets, in every attacked model; a target in one model is one trial.

    Args:
        pool: the scene's `honest` or `planted`; victims are dealt alike in both.
    """
    inside = balanced_membership(pool, SHADOWS + ATTACKED, seed)
    scores = _scores(scene, pool, inside, seed, progress)
    return ScoredTargets.of(scores, inside[SHADOWS:, scene.targets].numpy().ravel())


def lira_of_nobody(scene: Scene, seed: int) -> ScoredTargets:
    """The same, planted, of targets of whom none took part; "members" are dealt as before."""
    pool = scene.planted
    dealt = balanced_membership(pool, SHADOWS + ATTACKED, seed)
    inside = dealt.clone()
    inside[SHADOWS:, scene.targets] = False
    scores = _scores(scene, pool, inside, seed, lambda share: None)
    return ScoredTargets.of(scores, dealt[SHADOWS:, scene.targets].numpy().ravel())


def _scores(scene: Scene, pool: Pool, inside: Tensor, seed: int, progress: Progress) -> Floats:
    """(attacked models x targets,)."""
    heads = train(scene.plan, pool, inside, seed, progress)
    said = patient_losses(scene.plan.shape, heads, pool)[:, scene.targets]
    confidence = np.stack([logit_confidence(row) for row in said])
    shadows: Bools = inside[:SHADOWS, scene.targets].numpy()
    return np.concatenate(
        [lira_online(row, confidence[:SHADOWS], shadows) for row in confidence[SHADOWS:]]
    )


# ---- of a run, and of the fixture --------------------------------------------------------------


def amplification(case: Case, exposure: Exposure, progress: Progress) -> AttackResult:
    """With and without planting, on the run's settings and patients; of a peer alone."""
    if exposure.observer != "peer":
        return AttackResult()
    who = candidates(case.subject, case.released.tobytes())
    if isinstance(who, NoShadows):
        return AttackResult(findings=tuple(_finding(each, who.reason) for each in METHODS))
    scene, seed = Scene.of_run(case, exposure.members[0], who), case.subject.seed
    try:
        found = [
            lira(scene, scene.planted, seed, lambda share: progress(share / 2)),
            lira(scene, scene.honest, seed, lambda share: progress((1 + share) / 2)),
        ]
        rng = np.random.default_rng([seed, 0x7B])
        aucs = [auc_by_patient(each, rng) for each in found]
    except TooFewTargets as error:
        return AttackResult(findings=tuple(_finding(each, str(error)) for each in METHODS))
    details = {
        "rounds": scene.plan.training.rounds,
        "targets": len(scene.targets),
        "copies": int((scene.planted.hospital == 1).sum()),
        "shadows": SHADOWS,
        "attacked_models": ATTACKED,
    }
    findings = tuple(map(_finding, METHODS, aucs))
    return AttackResult(findings=findings, details={"planted": details})


def _finding(method: str, found: Estimate | str) -> Finding:
    """A figure, or why there is none."""
    if isinstance(found, str):
        return Finding(NAME, method, "auc", "peer", "worst case", absent=found, applies=False)
    return Finding(NAME, method, "auc", "peer", "worst case", found)


def planted_controls(seed: int) -> AttackResult:
    """On the overfit fixture, one hospital of which plants; named as the default policy's gates."""
    pool, plan = fixture(seed, by_lot=True)
    rng = np.random.default_rng([seed, 0x7C])
    scene = Scene.of(plan, pool, (0, 1), FIXTURE_ROUNDS, FIXTURE_TARGETS, rng)
    planted, honest = (
        auc(lira(scene, each, seed, lambda share: None)) for each in (scene.planted, scene.honest)
    )
    null = auc_by_patient(lira_of_nobody(scene, seed), rng)
    interval = null.interval(NULL_CONFIDENCE)
    return AttackResult(
        controls=(
            Control(NAME, "plain, records planted", "auc", planted),
            Control(NAME, "plain, records planted", "auc_rise", planted - honest),
            Control(NAME, "planted for patients of nobody", "auc", null.value, interval),
        )
    )
