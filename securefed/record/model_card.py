"""model-card.json: what a released model is, for whom, and what speaks against it.

The headings are those of Mitchell et al. (2019), "Model Cards for Model Reporting". Everything in
it stands in a record of the run already, and is put in from there (securefed/model_card). No
hospital is named, and nothing is in it that a released model does not tell anyway, but for the
totals of summary.json and for the evaluations that somebody had added.
"""

from typing import ClassVar

import msgspec

from securefed.config import Configuration
from securefed.model.calibration import Calibration
from securefed.privacy.accounting import Noise
from securefed.record.evaluation import Interval, Rate
from securefed.record.json_file import SCHEMA, JsonFile, Schema
from securefed.record.run_file import Weights
from securefed.record.summary import ClassScores
from securefed.verdict import Verdict


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What the model is.

    Attributes:
        model: SHA-256 of model.safetensors.
        run: the run's identity, as in ledgers; "" where the file does not say.
        securefed: version of the program that trained it; "" where only the file is there.
        label_of: what it answers for: a patient, a study or a slice.
        classes: what it tells apart; none where it says how probable a tumour is.
        initialisation, weights: what its encoders started from; "" and none where only the file is
            there.
        personal: parts that were trained stay with each hospital, and the held-out figures are of
            the file with these laid over it; null where only the file is there.
    """

    model: str
    run: str
    securefed: str
    encoder: str
    modalities: tuple[str, ...]
    image_size: int
    max_slices: int
    label_of: str
    classes: tuple[str, ...] = ()
    initialisation: str
    weights: tuple[Weights, ...]
    personal: bool | None


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What it was trained on.

    Attributes:
        simulation: what the patients were if not real; null for real ones.
        hospitals: how many; rounds: of training.
        patients: training patients, as declared; null where nobody here knows, and where it was
            declared exactly beside an epsilon, which would not cover it.
    """

    configuration: Configuration
    simulation: str | None
    hospitals: int
    patients: int | None
    rounds: int


class HeldOutFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How it did on patients of the same hospitals that did not train, at probability one half.

    Attributes:
        noise: standard deviation of the noise in the counts behind it, patients; null where exact.
        classes: each of several against the rest; the figures beside them are means over these.
    """

    patients: int
    noise: float | None
    auc: float | None
    auc_ci95: Interval | None
    sensitivity: float | None
    sensitivity_ci95: Interval | None
    specificity: float | None
    specificity_ci95: Interval | None
    classes: tuple[ClassScores, ...] = ()


class PrivacyPromise(msgspec.Struct, frozen=True, kw_only=True):
    """What its training promises.

    Attributes:
        sentence: epsilon with all that it means nothing without.
        noise: only the cryptographic one protects anybody.
        held_out_epsilon: of the patients behind the held-out figures; null where these are exact.
    """

    sentence: str
    noise: Noise
    epsilon: float | None
    delta: float | None
    unit: str | None
    held_out_epsilon: float | None


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """What attackers found.

    Attributes:
        verdict: of everything; families: attack -> the gravest of the lines that decide.
        asked: families that were to run, where that was not all.
    """

    verdict: Verdict
    policy: str
    effort: str
    families: dict[str, Verdict | None]
    asked: tuple[str, ...]
    interrupted: bool


class Evaluated(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation on patients of somebody's, at probability one half; no epsilon covers it.

    Attributes:
        data: digest of what the manifest said and of which files it named.
        trained: whether any of the patients trained the model, and not how many: the card says with
            noise how many there are. Null where that could not be told.
    """

    data: str
    patients: int
    positives: int
    auc: float
    auc_ci95: Interval
    sensitivity: Rate
    specificity: Rate
    calibration_error: float
    trained: bool | None


class ModelCard(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """The content of model-card.json.

    Attributes:
        do_not_use: why it is not to be used on patients; none where nothing speaks against.
        training: null where only the model's file is there, or it is not known.
        held_out: null where nobody was scored, in a hospital's folder, and where the counts are
            exact beside an epsilon, which would not cover them.
        calibration: of its probabilities, as the model's file carries it; null where it does not.
        audit: null where nobody has audited the run.
    """

    NAME: ClassVar[str] = "model-card.json"
    schema: Schema = SCHEMA

    do_not_use: tuple[str, ...]
    details: Details
    intended_use: tuple[str, ...]
    calibration: Calibration | None
    training: Training | None
    held_out: HeldOutFigures | None
    evaluations: tuple[Evaluated, ...]
    privacy: PrivacyPromise
    audit: Audited | None
    limits: tuple[str, ...]
