"""Figures of a model on labelled patients, from its predictions: of all of them, and of groups.

Where labels are of studies or slices each patient has the same say, shared out over its examples,
and intervals are of patients (securefed/model/scores.py). Groups are by site, by what was acquired,
and by any column of the manifest that is asked for; those of few patients are withheld
(securefed/prediction/withholding.py). No epsilon covers any of this: it is exact.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from securefed.errors import DataError
from securefed.prediction.figures import FEWEST, figures
from securefed.prediction.levels import Floats, Levels
from securefed.prediction.model import ReleasedModel
from securefed.prediction.predict import Predicting
from securefed.prediction.table import Prediction
from securefed.prediction.trained import Trained
from securefed.prediction.withholding import Bools, Cell, withheld
from securefed.record.evaluation import EvaluationFile, Group
from securefed.wording import counted

MOST_VALUES = 20  # of a column of groups; one with more is no grouping, and names people
NOT_GIVEN = "not given"
UNLIKE = "unlike"


def _calibrated(predictions: Sequence[Prediction]) -> Floats | None:
    found = [each.calibrated for each in predictions if each.calibrated is not None]
    return np.array(found) if len(found) == len(predictions) else None


@dataclass(frozen=True)
class Labelled:
    """Predictions beside the truth, in one order.

    Attributes:
        probability: (examples,), the network's own.
        calibrated: (examples,) by the model's temperature; None where it has none.
        positive: (examples,).
        patient: (examples,) whose each is, numbers.
        weight: (examples,) parts of a patient, the same for each of its examples.
        columns: what groups there are by, and each example's value.
    """

    probability: Floats
    positive: Bools
    patient: NDArray[np.int64]
    weight: Floats
    columns: Mapping[str, tuple[str, ...]]
    calibrated: Floats | None = None

    @classmethod
    def of(
        cls,
        predictions: Sequence[Prediction],
        labels: Sequence[int],
        modalities: Sequence[str],
        further: Mapping[str, Mapping[tuple[str, str], str]] | None = None,
    ) -> "Labelled":
        """Predictions with their labels.

        Args:
            further: column -> value of each example, by patient and name of the example.

        Raises:
            DataError: nobody, or only one label, was predicted; or a column has too many values.
        """
        positive = np.array(labels, np.bool_)
        if positive.all() or not positive.any():
            raise DataError(
                f"{len(positive)} predictions, {int(positive.sum())} of them of positives: an "
                "evaluation needs both labels",
                hint="securefed predict needs no labels; securefed data check lists lines that are "
                "left out",
            )
        patient = np.unique([each.patient_id for each in predictions], return_inverse=True)[1]
        columns = {
            "site": tuple(each.site for each in predictions),
            "modalities": tuple(
                "+".join(name for name in modalities if name not in each.missing.split("+"))
                for each in predictions
            ),
        }
        if any(each.strange for each in predictions):
            columns["scans"] = tuple(UNLIKE if each.strange else "like" for each in predictions)
        for column, values in (further or {}).items():
            if column in ("all", *columns):
                raise DataError(
                    f"a column called {column} cannot be told from what is told anyway",
                    hint="call it otherwise in the manifest, or leave --by out",
                )
            columns[column] = tuple(
                values.get((each.patient_id, each.example), "") or NOT_GIVEN for each in predictions
            )
            if len(set(columns[column])) > MOST_VALUES:
                raise DataError(
                    f"column {column} has {counted(len(set(columns[column])), 'value')}: it does "
                    "not divide the patients into groups",
                    hint=f"write at most {MOST_VALUES} values into the manifest, such as ranges",
                )
        return cls(
            probability=np.array([each.probability for each in predictions], np.float64),
            positive=positive,
            patient=patient,
            weight=1 / np.bincount(patient)[patient],
            columns=columns,
            calibrated=_calibrated(predictions),
        )

    def levels(self, chosen: Bools) -> Levels:
        """Some of the examples, by their probability."""
        return Levels.of_scores(
            self.probability[chosen],
            self.positive[chosen],
            self.weight[chosen],
            None if self.calibrated is None else self.calibrated[chosen],
        )

    @property
    def unlike(self) -> int:
        """Patients with scans unlike those of the training."""
        told = self.columns.get("scans")
        return self.patients(np.array(told) == UNLIKE) if told else 0

    def patients(self, chosen: Bools) -> int:
        """Who has one of these examples."""
        return len(np.unique(self.patient[chosen]))


def evaluation(
    model: ReleasedModel, asked: Predicting, trained: Trained, of: Labelled, problems: int
) -> EvaluationFile:
    """All that evaluation.json says.

    Args:
        asked: what was predicted; problems: how many lines and images could not be.
    """
    return EvaluationFile(
        model=model.digest,
        data=asked.digests[1],
        privacy=model.privacy,
        cautions=model.cautions,
        trained=trained.patients,
        trained_told=trained.told,
        unlike=None if model.reference is None else of.unlike,
        groups=tuple(groups(of)),
        problems=problems,
    )


def groups(of: Labelled) -> Iterator[Group]:
    """All patients, then by each column that has several values."""
    everybody = np.ones(len(of.positive), np.bool_)
    all_of = figures(of.levels(everybody))
    yield Group(
        column="all",
        value="all",
        patients=of.patients(everybody),
        positives=of.patients(of.positive),
        figures=all_of,
        withheld=False,
    )
    cells = dict(_cells(of))
    hidden = withheld(cells, of.positive, of.patient, FEWEST)
    for (column, value), chosen in cells.items():
        out = (column, value) in hidden
        yield Group(
            column=column,
            value=value,
            patients=None if out else of.patients(chosen),
            positives=None if out else of.patients(chosen & of.positive),
            figures=None if out else figures(of.levels(chosen), all_of.operating_points),
            withheld=out,
        )


def _cells(of: Labelled) -> Iterator[tuple[Cell, Bools]]:
    for column, values in of.columns.items():
        names = sorted(set(values))
        for name in names if len(names) > 1 else ():
            yield (column, name), np.array(values) == name
