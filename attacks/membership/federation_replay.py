"""The federation again, for many shadow models at once: same hospitals, settings, rounds.

A shadow model is what the run would have released had other patients taken part (Shokri et al.
2017; Carlini et al. 2022, section 4). So a replay repeats the run's own steps: Poisson sampling at
each hospital, one gradient per patient, clipping and noise where the run has them, the hospital's
optimizer, the FedAvg mean weighted by patients (or one step over the union where noise is shared
out), the server's strategy. All shadows of a group move together; groups are independent.

Not repeated: fixed-point rounding and the value range inside the secure sum (below 1e-4 of an
update's entry), hospitals that dropped out of single rounds, and cohorts sampled per round. Noise
comes from an ordinary generator: a shadow protects nobody.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks.membership.head_gradients import Drawn, HeadShape, Records, summed_gradients
from attacks.subject import Hospital, Training
from securefed.exposure import RoundView
from securefed.model.sharing import Vector
from securefed.model.strategies.strategy import State

ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8  # the published defaults (Kingma & Ba 2015)


@dataclass(frozen=True)
class Pool:
    """All patients an audit can call members or not: training and held-out, all hospitals.

    Attributes:
        records: of all patients, as tokens; a patient's examples are one record.
        patient: (records,) index of each record's patient.
        hospital: (patients,) index of each patient's hospital.
        is_member: (patients,) bool, whether the run trained on the patient.
    """

    records: Records = field(repr=False)
    patient: Tensor = field(repr=False)
    hospital: Tensor = field(repr=False)
    is_member: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.hospital)


@dataclass(frozen=True)
class ReplayPlan:
    """What every shadow repeats.

    Attributes:
        shape: of fusion and classifier, all of which are trained.
        initial: (size,) the head that everybody starts from.
        shared: (size,) bool, the entries that are aggregated; the rest is each hospital's own.
        others: shared parameters that come before them in a vector, those of encoders.
    """

    shape: HeadShape = field(repr=False)
    initial: Tensor = field(repr=False)
    shared: Tensor = field(repr=False)
    hospitals: tuple[Hospital, ...]
    training: Training
    others: int = 0

    def head(self, vector: Vector) -> Tensor:
        """A vector of shared parameters as one head, (1, size); what is not shared is initial."""
        head = self.initial.clone()
        head[self.shared] = torch.from_numpy(vector[self.others :].copy())
        return head[None]


def replay(
    plan: ReplayPlan, pool: Pool, inside: Tensor, seeds: list[int], told: Callable[[], None]
) -> Tensor:
    """Train one group of shadow models through all rounds.

    Args:
        inside: (models, patients) bool, who is trained on in which model.
        seeds: one per model, of its sampling and noise.
        told: called after each round.

    Returns:
        (models, size) float32: the released shared entries; the others as they were initially,
        since they are never released.
    """
    group = _Group(plan, pool, inside, [torch.Generator().manual_seed(seed) for seed in seeds])
    with torch.no_grad():
        for _ in range(plan.training.rounds):
            group.round()
            told()
    return group.released()


def trajectory(plan: ReplayPlan, pool: Pool, inside: Tensor, seed: int) -> Iterator[RoundView]:
    """One federation round by round, as a server sees it that tells updates apart.

    Args:
        inside: (patients,) bool, who is trained on.
    """
    group = _Group(plan, pool, inside[None], [torch.Generator().manual_seed(seed)])
    shared, names = plan.shared, tuple(each.name for each in plan.hospitals)
    for number in range(1, plan.training.rounds + 1):
        start = group.released()[0, shared].numpy()
        with torch.no_grad():
            updates = group.round()
        told = {name: updates[name][0, shared].numpy() for name in names}
        patients = {each.name: each.weight for each in plan.hospitals}
        yield RoundView(number, start, told, patients, None, names)


class _Group:
    """Shadow models on their way through the rounds."""

    def __init__(
        self, plan: ReplayPlan, pool: Pool, inside: Tensor, generators: list[torch.Generator]
    ) -> None:
        models = len(generators)
        self._plan, self._pool, self._generators = plan, pool, generators
        self._server = plan.initial.double().repeat(models, 1)  # (models, size)
        owner = pool.hospital[pool.patient]  # (records,)
        self._sites = []
        for index, hospital in enumerate(plan.hospitals):
            rows = torch.nonzero(owner == index).squeeze(1)
            here = inside[:, pool.patient[rows]]  # (models, records of the hospital)
            self._sites.append(_Site(plan, hospital, models, rows, here))
        self._memory: State = {}  # of the server's strategy

    def round(self) -> dict[str, Tensor]:
        """One round: every hospital trains, the server steps.

        Returns:
            Hospital -> change of the head, (models, size); empty where hospitals share out noise.
        """
        training, shared = self._plan.training, self._plan.shared
        updates: dict[str, Tensor] = {}
        if training.shared_noise:
            mean = self._step_over_union()
        else:
            mean = torch.zeros_like(self._server)
            everybody = sum(each.weight for each in self._plan.hospitals)
            for site in self._sites:
                update = site.train(self._pool, self._server.float(), self._generators)
                updates[site.hospital.name] = update
                mean += update.double() * (site.hospital.weight / everybody)
        stepped, self._memory = training.strategy.step(
            self._server[:, shared].numpy(), mean[:, shared].numpy(), self._memory
        )
        self._server[:, shared] = torch.from_numpy(stepped)
        return updates

    def released(self) -> Tensor:
        return self._server.float()

    def _step_over_union(self) -> Tensor:
        """One DP-SGD step over all hospitals together (distributed noise)."""
        heads = self._server.float()
        sums = [site.noised_sum(self._pool, heads, self._generators) for site in self._sites]
        mean = torch.stack(sums).sum(0) / sum(each.expected_batch for each in self._plan.hospitals)
        return -self._plan.training.learning_rate * mean.double()


class _Site:
    """One hospital in every model of a group."""

    def __init__(
        self,
        plan: ReplayPlan,
        hospital: Hospital,
        models: int,
        rows: Tensor,
        here: Tensor,
    ) -> None:
        self.hospital = hospital
        self._plan, self._rows, self._here = plan, rows, here
        self._head = plan.initial.repeat(models, 1)  # (models, size), personal entries kept
        self._steps = 0
        self._moments = [torch.zeros_like(self._head) for _ in range(2)]

    def train(self, pool: Pool, received: Tensor, generators: list[torch.Generator]) -> Tensor:
        """The local steps of a round; returns the change of the head, (models, size)."""
        training, shared = self._plan.training, self._plan.shared
        self._head[:, shared] = received[:, shared]
        before = self._head.clone()
        for _ in range(training.local_steps):
            gradient = self.noised_sum(pool, self._head, generators) / self.hospital.expected_batch
            if training.strategy.proximal:
                away = (self._head - before)[:, shared]
                gradient[:, shared] += training.strategy.proximal * away
            self._head -= training.learning_rate * self._direction(gradient)
        return self._head - before

    def noised_sum(self, pool: Pool, heads: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Sum of the drawn records' gradients, clipped and noised as the run does it."""
        training = self._plan.training
        uniform = torch.stack([torch.rand(len(self._rows), generator=g) for g in generators])
        chosen = self._here & (uniform < self.hospital.sample_rate)
        model, place = torch.nonzero(chosen, as_tuple=True)
        drawn = Drawn(model, self._rows[place])
        clipped_to = training.clipped_to
        total = summed_gradients(self._plan.shape, heads, pool.records, drawn, clipped_to)
        if training.clip_norm is None:
            return total
        noise = torch.stack([torch.randn(heads.shape[1], generator=g) for g in generators])
        return total + self.hospital.noise_multiplier * training.clip_norm * noise

    def _direction(self, gradient: Tensor) -> Tensor:
        if self._plan.training.optimizer != "adam":
            return gradient
        self._steps += 1
        (beta1, beta2), moments = ADAM_BETAS, self._moments
        moments[0].mul_(beta1).add_(gradient, alpha=1 - beta1)
        moments[1].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        first = moments[0] / (1 - beta1**self._steps)
        second = moments[1] / (1 - beta2**self._steps)
        return first / (second.sqrt() + ADAM_EPSILON)
