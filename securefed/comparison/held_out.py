"""Held-out scores of a finished run, read again from its directory.

summary.json holds totals; a comparison also needs each hospital's histogram, for intervals over
patients and for a fair look at hospitals that train alone. So the final network of the run is laid
together from its files and scores everybody's held-out patients once more, in the auditor's
position: this works where one machine holds all hospitals, as in a simulation. The total must give
the AUC that summary.json holds, or the files do not belong together.
"""

import numpy as np

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.errors import DataError, RunError
from securefed.hospital.tokens import kept_with
from securefed.model.class_scores import count_group, metrics
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.scores import Counts, score
from securefed.record import model_file
from securefed.record.directory import read_tensors
from securefed.run_directory import Run
from securefed.training.device import choose_device
from securefed.training.patients import stack
from securefed.wire.description import initial_network

# Another number of threads adds floats in another order; a score at a bin's edge may then move.
TOLERANCE = 2e-3


class HeldOut:
    """The held-out patients of one seed's hospitals, encoded once where encoders do not train.

    Raises:
        DataError: no hospital holds any patient out.
    """

    def __init__(self, settings: Settings, data: FederatedData) -> None:
        if not any(hospital.test for hospital in data.hospitals):
            raise DataError(
                "no hospital holds a patient out: there is nothing to compare by",
                hint="use fewer hospitals or a larger data.test_fraction",
            )
        device = choose_device(settings.device)
        self._network = initial_network(settings)[0].to(device)
        self._encoded = not settings.model.train_encoders
        encode = kept_with(settings, data.simulation)
        self._groups: dict[str, PatientTensors] = {}
        for hospital in data.hospitals:
            if hospital.test:
                group = stack(hospital.test, settings.training.max_slices).to(device)
                self._groups[hospital.name] = (
                    encode(self._network, group) if self._encoded else group
                )

    def counts(self, run: Run) -> dict[str, Counts]:
        """Hospital -> histogram under the run's final parameters, its personal ones included.

        Raises:
            RunError: files are missing or damaged, or do not give the summary's AUC.
        """
        counts = {
            name: self._score(_network(self._network, run, name), group)
            for name, group in self._groups.items()
        }
        recorded = run.summary.auc
        auc = metrics(np.sum(list(counts.values()), axis=0)).auc
        if recorded is not None and (auc is None or abs(auc - recorded) > TOLERANCE):
            raise RunError(
                f"{run.path}: the model scores an AUC of {auc}, summary.json holds {recorded}",
                hint="the files are not of one run; delete the directory and compare again",
            )
        return counts

    def _score(self, network: FusionNetwork, group: PatientTensors) -> Counts:
        network.eval()
        return count_group(score(network, group, encoded=self._encoded), group)


def _network(initial: FusionNetwork, run: Run, name: str) -> FusionNetwork:
    personal = run.hospital(name) / "personal.safetensors"
    return model_file.load(run.path, initial, read_tensors(personal) if personal.exists() else None)
