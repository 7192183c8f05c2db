"""What a finished run came to: summary.json, held_out.json, and each hospital's own results.

No patient's data is in any of these files, and nobody's own score.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from securefed.config import Configuration
from securefed.model.calibration import Calibration
from securefed.model.rates import rate_interval
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Noise
from securefed.record.json_file import SCHEMA, JsonFile, Schema
from securefed.record.metrics import Metrics
from securefed.record.times import Times

CELLS = 4  # noised counts in each cell of the confusion matrix (model.noised_scores)

if TYPE_CHECKING:
    from securefed.model.noised_scores import NoisedScores
    from securefed.model.scores import Counts
    from securefed.model.scores import Metrics as Scored


class ClassScores(msgspec.Struct, frozen=True, kw_only=True):
    """How one of several classes is told from the rest; as in `Scores`.

    Attributes:
        sensitivity, specificity: where the likeliest class is the one called.
    """

    name: str
    auc: float | None
    auc_ci95: tuple[float, float] | None
    sensitivity: float | None
    specificity: float | None


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """How a model did on held-out patients at probability one half; None where it cannot be said.

    Attributes:
        auc_ci95: 95% interval of `auc` (lower, upper).
        classes: each of several against the rest; none with labels 0 and 1. With them all other
            figures are means over the classes, and accuracy is the share of patients whose class
            was called.
    """

    auc: float | None
    auc_ci95: tuple[float, float] | None
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    f1: float | None
    classes: tuple[ClassScores, ...] = ()


def performance(scored: "Scored | None", classes: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of `Scores`; all None where nobody was scored.

    Args:
        classes: names of the task's, none of labels 0 and 1.
    """
    return {
        "auc": scored.auc if scored else None,
        "auc_ci95": scored.auc_ci95 if scored else None,
        "accuracy": scored.accuracy if scored else None,
        "sensitivity": scored.sensitivity if scored else None,
        "specificity": scored.specificity if scored else None,
        "f1": scored.f1 if scored else None,
        "classes": tuple(
            ClassScores(name=name, **asdict(one))
            for name, one in zip(classes, scored.classes, strict=True)
        )
        if scored
        else (),
    }


class Summary(JsonFile, Scores, frozen=True, kw_only=True):
    """summary.json: the global model, and what it cost.

    Attributes:
        patients: training patients of all hospitals, as declared; None at a server, which keeps no
            number of them but the totals that were opened (metrics.jsonl).
        simulation: what they are if not real, as in run.json.
        canaries: made-up records with a coin each, in a run for auditing; its model is for nothing
            else. None in a run without.
        local_auc: mean AUC of models trained alone, where the run had baselines.
        noise: only the cryptographic one protects anybody.
        epsilon: the largest of any hospital, at a server what each holds the run to; an upper bound
            that means nothing without delta, unit and accountant: `Run.guarantee` has them
            together. None without DP, and with seeded noise.
        evaluation_epsilon: of held-out patients, who are others; the figures above carry its noise.
            None where they are exact.
        temperature: what the model's logits are divided by for calibrated probabilities; more of it
            is in held_out.json. None where the scores do not say.
        rounds: that were trained.
        chosen_after: the round whose result the model is, where the best of what was scored was
            wanted (federation.patience); None for the last.
        bytes_up_per_client_round, client_seconds_per_round, ...: medians.
        survivors_by_round: clients in each round's sum; 0 is an aborted round.
        rounds_aborted: how many came to nothing; where that is all of them there is no model.
    """

    NAME: ClassVar[str] = "summary.json"
    schema: Schema = SCHEMA

    configuration: Configuration
    rounds: int
    chosen_after: int | None = None
    clients: int
    patients: int | None
    simulation: str | None
    canaries: int | None
    local_auc: float | None
    noise: Noise
    epsilon: float | None
    epsilon_by_client: dict[str, float] | None
    evaluation_epsilon: float | None = None
    temperature: float | None = None
    delta: float | None
    privacy_unit: str | None
    accountant: Accountant | None
    bytes_up_per_client_round: float | None
    bytes_down_per_client_round: float | None
    client_seconds_per_round: float | None
    aggregate_seconds_per_round: float | None
    wall_seconds: float
    survivors_by_round: tuple[int, ...]
    rounds_aborted: int


def costs(lines: Metrics, worked: Sequence[Sequence[Times]], finished: int) -> dict[str, Any]:
    """The fields of `Summary` that are medians over `finished` rounds.

    Args:
        worked: each hospital's times, as far as they are known.
    """
    clients = [line for line in lines.clients if line.round <= finished]
    rounds = [line for line in lines.rounds if line.round <= finished]
    return {
        "bytes_up_per_client_round": _median([line.bytes_up for line in clients]),
        "bytes_down_per_client_round": _median([line.bytes_down for line in clients]),
        "client_seconds_per_round": client_seconds(worked, finished),
        "aggregate_seconds_per_round": _median([line.server_s for line in rounds]),
    }


def client_seconds(worked: Sequence[Sequence[Times]], finished: int) -> float | None:
    """Median seconds of one hospital's work in a round; None where nobody's times are known."""
    return _median(
        [one.train_s + one.protocol_s for own in worked for one in own if one.round <= finished]
    )


def _median(values: Sequence[float]) -> float | None:
    return float(median(values)) if values else None


class HospitalSummary(JsonFile, Scores, frozen=True, kw_only=True):
    """hospitals/NAME/summary.json: the final model on one hospital's own held-out patients.

    It is the hospital's file, not the server's.
    """

    NAME: ClassVar[str] = "summary.json"
    schema: Schema = SCHEMA

    name: str
    training_patients: int
    held_out_patients: int
    local_auc: float | None
    noise: Noise
    epsilon: float | None


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out patients by truth and by the answer at probability one half.

    Whole ones, but where labels are of studies or slices: there a patient is shared out over them.
    """

    true_positive: int | float
    false_negative: int | float
    false_positive: int | float
    true_negative: int | float


Corners = tuple[tuple[float, float], ...]  # (false-positive rate, true-positive rate)


class OfClass(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out patients of one of several classes.

    Attributes:
        called: how many of them were called each class, in the order of the classes.
        roc: corners of the curve of this class against the rest; None where one of the two is
            missing.
    """

    name: str
    called: tuple[int | float, ...]
    roc: Corners | None


class ScoreBin(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out patients of about the same score.

    Attributes:
        least: logit that all of them have at least; null in the lowest bin.
        middle: logit at which they are taken to be.
        negatives, positives: patients, or parts of them; with noise neither whole nor above zero.
    """

    least: float | None
    middle: float
    negatives: float
    positives: float

    @classmethod
    def of(cls, scores: "Counts | NoisedScores") -> "tuple[ScoreBin, ...]":
        """All bins of a histogram of scores, but for those of nobody where it is exact."""
        from securefed.model.noised_scores import cells, edges  # imports torch

        bins = cells(scores)
        return tuple(
            cls(
                least=float(least) if math.isfinite(least) else None,
                middle=float(middle),
                negatives=float(negatives),
                positives=float(positives),
            )
            for least, middle, negatives, positives in zip(
                edges(scores), bins.logit, bins.negatives, bins.positives, strict=True
            )
        )


class HeldOut(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """held_out.json: what the final model says of all held-out patients, in totals.

    Attributes:
        noise: standard deviation of the noise in each of the counts that all of this was made from
            (16; with several classes 16 for each, and each cell of the matrix), patients; None
            where they are exact. Noised numbers below 0 are shown as 0.
        confusion, roc: of labels 0 and 1; None where there are several classes. The curve is also
            None where the patients are all of one label.
        bins: the counts themselves, ascending, without those of nobody; none of several classes.
        calibration: of the model's probabilities, from the same counts; None of nobody, and of
            several classes.
        classes: of several; none with labels 0 and 1.
    """

    NAME: ClassVar[str] = "held_out.json"
    schema: Schema = SCHEMA

    patients: int
    noise: float | None = None
    confusion: Confusion | None
    roc: Corners | None
    bins: tuple[ScoreBin, ...] = ()
    calibration: Calibration | None = None
    classes: tuple[OfClass, ...] = ()

    @property
    def temperature(self) -> float | None:
        """Of the calibration; None where the counts do not say."""
        found = self.calibration and self.calibration.temperature
        return found.value if found else None

    @property
    def rate_intervals(self) -> dict[str, tuple[float, float] | None]:
        """95% intervals of sensitivity, specificity and accuracy; None where there is no such
        patient. Of several classes of accuracy alone: the rest are means over classes."""
        if self.confusion is None:
            return {"accuracy": self._called_right()}
        one, deviation = self.confusion, (self.noise or 0.0) * math.sqrt(CELLS)
        right = one.true_positive + one.true_negative
        wrong = one.false_positive + one.false_negative
        noise, of_both = (deviation,) * 2, (deviation * math.sqrt(2),) * 2
        return {
            "sensitivity": rate_interval(one.true_positive, one.false_negative, noise),
            "specificity": rate_interval(one.true_negative, one.false_positive, noise),
            "accuracy": rate_interval(right, wrong, of_both),
        }

    def _called_right(self) -> tuple[float, float] | None:
        """95% interval of the share of patients whose class was called."""
        right = sum(one.called[place] for place, one in enumerate(self.classes))
        wrong = sum(sum(one.called) for one in self.classes) - right
        count, each = len(self.classes), self.noise or 0.0  # of every cell of the matrix
        return rate_interval(
            right, wrong, (each * math.sqrt(count), each * math.sqrt(count * (count - 1)))
        )
