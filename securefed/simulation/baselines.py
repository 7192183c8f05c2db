"""What the federation is compared with: hospitals alone, all data in one place, other fusions.

    alone        each hospital trains by itself, and is scored on its own held-out patients
    pooled       one model on everybody's patients: needs the data in one place, an upper bound
    ct only      a federation that has only the CT of every patient; likewise each modality
    late fusion  no training of its own: the mean of those models' logits

Each takes the same number of steps with the same settings, DP included, on the same patients; a
pooled step draws as many patients as all hospitals together. Late fusion averages instead of
learning weights, so that it costs no held-out patient and no epsilon beyond those models'.

Baselines release more about the patients than the run's epsilon pays for, so they are allowed
without DP or on phantoms only (docs/decisions/0011); their ledgers are their own.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from securefed.config import Settings
from securefed.data.load import FederatedData, HospitalData
from securefed.hospital.opening import open_hospital
from securefed.hospital.tokens import kept_with
from securefed.model.class_scores import count_group, metrics
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.scores import Counts, score
from securefed.model.strategies.strategy import State
from securefed.privacy.sampling import Batch, Sampling
from securefed.record.baselines import Baselines
from securefed.record.directory import RunDirectory
from securefed.record.metrics import Curve
from securefed.simulation.hospitals import here
from securefed.simulation.opening import start
from securefed.simulation.simulation import Simulation
from securefed.training.device import choose_device
from securefed.training.patients import stack
from securefed.training.trainer import LocalTrainer
from securefed.wire.description import JobDescription


@dataclass(frozen=True)
class Baseline:
    """One baseline's result.

    Attributes:
        counts: hospital -> counts of its held-out scores.
        curve: AUC over the rounds; of `alone` the mean over hospitals; empty where unknown.
        wall_s: seconds of training and scoring.
    """

    name: str
    counts: dict[str, Counts] = field(repr=False)
    curve: Curve
    wall_s: float


def train_baselines(simulation: Simulation) -> Baselines:
    """Train the baselines of a finished run; takes about a run for each modality."""
    settings, data = simulation.settings, simulation.data
    folder = simulation.directory.path / "baselines"
    local = alone(settings, data, folder / "alone").counts
    final = {
        kept: metrics(_total(_one_modality(settings, data, folder, kept)[0])).auc
        for kept in settings.model.modalities
    }
    return Baselines(
        local={name: metrics(counts).auc for name, counts in local.items()},
        one_modality=final,
    )


def alone(settings: Settings, data: FederatedData, folder: Path) -> Baseline:
    """Each hospital trains by itself."""
    started = time.perf_counter()
    counts, curves = {}, []
    for hospital in data.hospitals:
        trainer, curve = train_by_itself(settings, hospital, data.simulation, folder)
        counts[hospital.name] = trainer.evaluate()
        if hospital.test:
            curves.append(curve)
    return Baseline("alone", counts, _mean(curves), time.perf_counter() - started)


def pooled(settings: Settings, data: FederatedData, folder: Path) -> Baseline:
    """One model trained where everybody's patients lie; scored hospital by hospital."""
    started = time.perf_counter()
    everybody = HospitalData(
        "pooled",
        [patient for hospital in data.hospitals for patient in hospital.train],
        [patient for hospital in data.hospitals for patient in hospital.test],
    )
    training, federation = settings.training, settings.federation
    asked = federation.clients_per_round or federation.clients
    batch = training.model_copy(update=_of_all(training.sampling, asked, federation.clients))
    # The limit is of secure aggregation, of which nothing happens here.
    limit = settings.secure_aggregation.model_copy(update={"max_patients": len(everybody.train)})
    together = settings.model_copy(update={"training": batch, "secure_aggregation": limit})
    trainer, curve = train_by_itself(together, everybody, data.simulation, folder)
    counts = {
        hospital.name: count_group(_logits(trainer, group), group)
        for hospital in data.hospitals
        if (group := _held_out(settings, hospital, choose_device(settings.device))) is not None
    }
    return Baseline("pooled", counts, curve, time.perf_counter() - started)


def _of_all(sampling: Sampling, asked: int, hospitals: int) -> dict[str, float]:
    """Where everybody's patients lie in one place, as many in a step as in a round's cohort."""
    if isinstance(sampling, Batch):
        return {"batch_size": sampling.size * asked}
    return {"sample_rate": sampling.unit * asked / hospitals}


def modalities(settings: Settings, data: FederatedData, folder: Path) -> list[Baseline]:
    """Each modality only, and the late fusion of them all."""
    started = time.perf_counter()
    alone = {
        kept: _one_modality(settings, data, folder, kept) for kept in settings.model.modalities
    }
    federations = {kept: simulation for kept, (_, simulation) in alone.items()}
    fused = {
        hospital.name: count_group(
            _mean_logits(
                {
                    kept: federation.hospitals[hospital.name].trainer
                    for kept, federation in federations.items()
                },
                group,
            ),
            group,
        )
        for hospital in data.hospitals
        if (group := _held_out(settings, hospital, choose_device(settings.device))) is not None
    }
    late = Baseline("late fusion", fused, (), time.perf_counter() - started)
    return [*(baseline for baseline, _ in alone.values()), late]


def train_by_itself(
    settings: Settings, hospital: HospitalData, simulation: str, folder: Path
) -> tuple[LocalTrainer, Curve]:
    """A hospital's trainer after as many rounds alone, and its AUC over them."""
    # Nobody to share noise or masks with, or to send to: a job of one, in every round, with its own
    # noise.
    own_noise = settings.privacy.model_copy(update={"placement": "local"})
    clear = settings.secure_aggregation.model_copy(update={"enabled": False})
    always = settings.federation.model_copy(update={"clients_per_round": None, "sent_share": 1.0})
    alone = settings.model_copy(
        update={"privacy": own_noise, "secure_aggregation": clear, "federation": always}
    )
    job = JobDescription(alone, "alone", (hospital.name,))
    place = RunDirectory(folder).hospital(hospital.name)
    device, federation = choose_device(settings.device), settings.federation
    encode = kept_with(settings, simulation)
    trainer = open_hospital(job, place, hospital, None, device, encode=encode).trainer
    strategy, shared, state = job.strategy, job.shared, State()
    curve = []
    for number in range(1, federation.rounds + 1):
        trainer.receive(shared.astype(np.float32))
        if (number - 1) % federation.evaluate_every == 0:
            curve.append((number - 1, metrics(trainer.evaluate()).auc))
        update = trainer.contribute(number).astype(np.float64)
        shared, state = strategy.step(shared, update, state)
    trainer.receive(shared.astype(np.float32))
    curve.append((federation.rounds, metrics(trainer.evaluate()).auc))
    return trainer, tuple((number, auc) for number, auc in curve if auc is not None)


def _one_modality(
    settings: Settings, data: FederatedData, folder: Path, kept: str
) -> tuple[Baseline, Simulation]:
    started = time.perf_counter()
    silent = settings.exposures.model_copy(update={"record": False})
    # Baselines of private runs are of phantoms, and give every round's exact scores.
    exact = settings.privacy.model_copy(update={"evaluation_epsilon": None})
    only = start(
        settings.model_copy(update={"exposures": silent, "privacy": exact}),
        RunDirectory.create(folder / f"{kept}-only"),
        lambda text: None,
        data=data,
        gather=partial(here, view=lambda group: group.only(kept)),
    )
    curve = [
        (record.round - 1, record.metrics.auc)
        for record, _ in only.rounds()
        if record.metrics and record.metrics.auc is not None
    ]
    final = only.evaluate()  # every hospital has the final parameters afterwards
    if final.metrics and final.metrics.auc is not None:
        curve.append((only.server.finished, final.metrics.auc))
    counts = {name: hospital.trainer.evaluate() for name, hospital in only.hospitals.items()}
    wall_s = time.perf_counter() - started
    return Baseline(f"{kept} only", counts, tuple(curve), wall_s), only


def _held_out(
    settings: Settings, hospital: HospitalData, device: torch.device
) -> PatientTensors | None:
    if not hospital.test:
        return None
    return stack(hospital.test, settings.training.max_slices).to(device)


def _logits(trainer: LocalTrainer, group: PatientTensors) -> Tensor:
    """Logits of images under the trainer's current parameters, by example."""
    network: FusionNetwork = trainer.network
    network.eval()
    return score(network, tokens_of(network, group), encoded=True)


def _mean_logits(trainers: Mapping[str, LocalTrainer], group: PatientTensors) -> Tensor:
    """Mean logits of the models of one modality each, where an example has that one.

    Of several classes too: a softmax of mean logits, which is the models' geometric mean.
    """
    answer = next(iter(trainers.values())).network.shape.answer
    total, weight = torch.zeros(len(group), *answer), torch.zeros(len(group))
    for kept, trainer in trainers.items():
        rows = group.present[:, group.modalities.index(kept)].any(dim=1)
        total[rows] += _logits(trainer, group.only(kept)).to(total)
        weight += rows.to(weight)
    return total / weight.view(-1, *(1 for _ in answer))


def _mean(curves: Sequence[Curve]) -> Curve:
    """Mean AUC where every hospital has one."""
    of_round = [dict(curve) for curve in curves]
    rounds = sorted(set.intersection(*map(set, of_round))) if of_round else []
    return tuple((number, fmean(each[number] for each in of_round)) for number in rounds)


def _total(baseline: Baseline) -> Counts:
    total: Counts = np.sum(list(baseline.counts.values()), axis=0)
    return total
