"""How well a model tells several classes apart, from its answers for patients of known labels.

As the histograms of a run have it (model.class_scores), from the single scores: each class against
the rest by the log-odds of its probability, and the matrix of true by called. Where labels are of
studies or slices each patient has the same say, and intervals are of so many patients.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from securefed.errors import DataError
from securefed.model.auc import area_of_scores
from securefed.model.class_scores import against_rest, ends_of_all, mean_of_all
from securefed.model.rates import rate_interval
from securefed.model.scores import auc_interval, ratio, whole
from securefed.prediction.model import ReleasedModel
from securefed.prediction.table import Prediction
from securefed.prediction.trained import Trained
from securefed.record.class_evaluation import ClassEvaluated, ClassEvaluationFile
from securefed.record.evaluation import Rate

Floats = NDArray[np.float64]


def evaluated(
    model: ReleasedModel,
    trained: Trained,
    predictions: Sequence[Prediction],
    labels: Sequence[int],
    problems: int,
) -> ClassEvaluationFile:
    """The figures of these predictions.

    Args:
        predictions: of a model of several classes.
        labels: numbers of the classes that are true, of each.

    Raises:
        DataError: nobody was predicted.
    """
    if not predictions:
        raise DataError("nobody was predicted", hint="securefed data check lists every problem")
    patient = np.unique([each.patient_id for each in predictions], return_inverse=True)[1]
    weight, truth = 1 / np.bincount(patient)[patient], np.array(labels)
    against = against_rest(torch.tensor([each.logits for each in predictions])).numpy()
    count = len(model.classes)
    called = np.array([model.classes.index(each.called) for each in predictions])
    cells = np.bincount(truth * count + called, weight, minlength=count**2)
    matrix = cells.round(6).reshape(count, count)
    classes = [
        _one(name, c, truth == c, against[:, c], weight, patient, matrix)
        for c, name in enumerate(model.classes)
    ]
    return ClassEvaluationFile(
        model=model.digest,
        privacy=model.privacy,
        cautions=model.cautions,
        trained=trained.patients,
        trained_told=trained.told,
        patients=int(patient.max()) + 1,
        auc=mean_of_all([each.auc for each in classes]),
        auc_ci95=ends_of_all([each.auc_ci95 for each in classes]),
        accuracy=_rate(float(matrix.trace()), float(matrix.sum() - matrix.trace())),
        classes=tuple(classes),
        problems=problems,
    )


def _one(
    name: str,
    number: int,
    is_it: NDArray[np.bool_],
    scores: Floats,
    weight: Floats,
    patient: NDArray[np.int64],
    matrix: NDArray[np.generic],
) -> ClassEvaluated:
    auc = interval = None
    if is_it.any() and not is_it.all():
        auc = area_of_scores(scores, is_it, weight)
        interval = auc_interval(auc, float(weight[~is_it].sum()), float(weight[is_it].sum()))
    found, true = float(matrix[number, number]), float(matrix[number].sum())
    alarms = float(matrix[:, number].sum()) - found
    rest = float(matrix.sum()) - true - alarms
    return ClassEvaluated(
        name=name,
        patients=len(np.unique(patient[is_it])),
        auc=auc,
        auc_ci95=interval,
        sensitivity=_rate(found, true - found),
        specificity=_rate(rest, alarms),
        called=tuple(whole(float(cell)) for cell in matrix[number]),
    )


def _rate(right: float, wrong: float) -> Rate:
    return Rate(ratio(right, right + wrong), rate_interval(right, wrong))
