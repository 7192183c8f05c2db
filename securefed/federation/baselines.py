"""What the federation is compared with: each hospital alone, and one modality alone.

Each baseline takes the same number of steps with the same settings, DP included, on the same
patients. They release more about those patients than the run's epsilon pays for, so settings allow
them only without DP or on phantoms; their ledgers are their own, under baselines/.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from securefed.federation.builders import build_trainer
from securefed.federation.opening import open_run
from securefed.federation.run_directory import RunDirectory
from securefed.federation.simulation import Simulation
from securefed.federation.strategies import build_strategy
from securefed.model.sharing import flatten, shared_names
from securefed.training.evaluation import metrics
from securefed.training.patients import without_ct, without_mri


@dataclass(frozen=True)
class Baselines:
    """AUCs on held-out patients; None where a hospital's held-out patients are all of one label.

    Attributes:
        local: hospital -> AUC of the model it trained alone, on its own held-out patients.
        ct_only, mri_only: AUC of federations that have only that modality.
    """

    local: dict[str, float | None]
    ct_only: float | None
    mri_only: float | None

    @property
    def mean_local(self) -> float | None:
        """Mean over the hospitals."""
        known = [value for value in self.local.values() if value is not None]
        return fmean(known) if known else None


def train_baselines(simulation: Simulation) -> Baselines:
    """Train all baselines of a finished run; takes about two more runs."""
    folder = simulation.directory.path / "baselines"
    local = {
        hospital.name: _alone(simulation, hospital.name, folder / "alone")
        for hospital in simulation.data.hospitals
    }
    return Baselines(
        local=local,
        ct_only=_one_modality(simulation, folder / "ct-only", "ct"),
        mri_only=_one_modality(simulation, folder / "mri-only", "mri"),
    )


def _alone(simulation: Simulation, name: str, folder: Path) -> float | None:
    directory = RunDirectory(folder)
    (hospital,) = [each for each in simulation.data.hospitals if each.name == name]
    trainer, _ = build_trainer(
        simulation.settings, directory, hospital, simulation.network, simulation.device, "alone"
    )
    names = shared_names(trainer.network, simulation.settings.federation.shared)
    start = flatten(dict(simulation.network.named_parameters()), names)
    federation = simulation.settings.federation
    strategy = build_strategy(federation.strategy, federation.server_learning_rate)
    shared = start.astype(np.float64)
    for number in range(1, federation.rounds + 1):
        trainer.receive(shared.astype(np.float32))
        shared = strategy.step(shared, trainer.train(number).astype(np.float64))
    trainer.receive(shared.astype(np.float32))
    return metrics(trainer.evaluate()).auc


def _one_modality(simulation: Simulation, folder: Path, kept: str) -> float | None:
    settings = simulation.settings.model_copy(
        update={"exposures": simulation.settings.exposures.model_copy(update={"record": False})}
    )
    only = open_run(
        settings,
        RunDirectory.create(folder),
        lambda text: None,
        resume=False,
        data=simulation.data,
        view=without_mri if kept == "ct" else without_ct,
    )
    for _ in only.rounds():
        pass
    final = only.evaluate()
    return final.metrics.auc if final.metrics else None
