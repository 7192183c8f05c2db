"""compare.json: the same federation under several configurations, row by row.

Rows of configurations and of baselines have the same figures, so that they make one table.
docs/compare.md explains every key.
"""

from typing import Any, ClassVar, Literal

import msgspec

from securefed.config import Configuration
from securefed.privacy.accounting import Noise
from securefed.record.audit import Judgement
from securefed.record.json_file import SCHEMA, JsonFile, Schema
from securefed.record.metrics import Curve
from securefed.record.summary import Confusion
from securefed.verdict import Verdict

Interval = tuple[float, float]
Headline = Literal["auc", "mean_auc"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over seeds; None where one of them has no such figure.

    Attributes:
        ci95_patients: had other patients been held out, with these very models.
        ci95_seeds: had the whole study been made again; None for one seed.
    """

    value: float | None
    ci95_patients: Interval | None
    ci95_seeds: Interval | None
    by_seed: tuple[float | None, ...]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All of summed histograms, but `mean_auc`: the mean of each hospital's own AUC."""

    auc: Figure
    mean_auc: Figure
    accuracy: Figure
    precision: Figure
    recall: Figure
    specificity: Figure
    f1: Figure


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of summary.json that are costs; None where a baseline has no such thing."""

    bytes_up_per_client_round: float | None = None
    bytes_down_per_client_round: float | None = None
    client_seconds_per_round: float | None = None
    aggregate_seconds_per_round: float | None = None
    wall_seconds: float | None = None


class Leak(Judgement, frozen=True, kw_only=True):
    """The gravest judgement of one attack by one observer, and the seed whose run it is of."""

    seed: int


class Leakage(msgspec.Struct, frozen=True, kw_only=True):
    """What the audits of one row's runs found.

    Attributes:
        verdict: the gravest of the audits.
        observers: observer -> attack -> its gravest judgement; one that concerns no single
            observer stands under "any".
    """

    verdict: Verdict | None
    observers: dict[str, dict[str, Leak]]


class ClassRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of several classes against the rest.

    Attributes:
        called: its held-out patients by the class they were called, in the order of the classes;
            all seeds together.
    """

    name: str
    auc: Figure
    called: tuple[int | float, ...]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one configuration or baseline over its seeds.

    Attributes:
        auc_is: which figure is its AUC: "mean_auc" where every hospital has a model of its own, so
            that scores of different hospitals have no common scale.
        epsilon_spent: the largest over hospitals and seeds; None without DP, and with seeded
            noise.
        confusion: of labels 0 and 1; None where there are `classes`, of which `figures` are means.
    """

    name: str
    epsilon_budget: float | None
    seeds: tuple[int, ...]
    held_out_patients: tuple[int, ...]
    auc_is: Headline
    figures: Figures
    auc_newcombe_ci95: tuple[Interval | None, ...]
    confusion: Confusion | None
    classes: tuple[ClassRow, ...] = ()
    convergence_round: float | None
    convergence_round_by_seed: tuple[int | None, ...]
    epsilon_spent: float | None
    cost: Cost

    @property
    def headline(self) -> Figure:
        """Its AUC."""
        figure: Figure = getattr(self.figures, self.auc_is)
        return figure


class ConfigurationRow(Row, frozen=True, kw_only=True):
    """A configuration; `leakage` is None where it was not audited."""

    configuration: Configuration
    noise: Noise
    runs: tuple[str, ...]
    leakage: Leakage | None

    @property
    def title(self) -> str:
        return self.name


class BaselineRow(Row, frozen=True, kw_only=True):
    """A baseline; `privacy` says in words at which level, `remark` what to make of it."""

    privacy: str
    remark: str

    @property
    def title(self) -> str:
        return f"{self.name}, {self.privacy}"


class ShareRow(msgspec.Struct, frozen=True, kw_only=True):
    """The model trained on a share of each hospital's patients."""

    share: float
    seeds: tuple[int, ...]
    figures: Figures


class DataEfficiency(msgspec.Struct, frozen=True, kw_only=True):
    """How many patients are enough; `target` is 95% of the AUC with all of them."""

    configuration: Configuration
    shares: tuple[ShareRow, ...]
    target: float | None
    smallest_tried_share_that_reaches_it: float | None


class StartingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the starting report."""

    name: str
    accuracy: float
    auc: float


class StartingReport(msgspec.Struct, frozen=True, kw_only=True):
    """The table of the report this project starts from, as printed there."""

    note: str
    hospitals: int
    pairs: int
    image_size: int
    rounds: int
    optimizer: str
    rows: tuple[StartingRow, ...]
    accuracy_with_partial_modalities: float
    megabytes_per_client_round: float
    client_minutes_per_round: float
    aggregate_minutes_per_round: float


class Same(msgspec.Struct, frozen=True, kw_only=True):
    """Fingerprints of what all runs of a seed share, and the settings that they may differ in."""

    seed: int
    data_sha256: str
    splits_sha256: str
    public_weights_sha256: str | None
    initial_shared_sha256: str
    may_differ: tuple[str, ...]


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """An audit that this comparison made: its effort, and the SHA-256 of its audit.json."""

    effort: str
    sha256: str


class TrainedBaseline(msgspec.Struct, frozen=True, kw_only=True):
    """One baseline of one seed.

    Attributes:
        counts: hospital -> occupied places of its histogram of held-out scores, with the number of
            patients in each.
        curve: finished rounds, AUC.
        wall_s: seconds of training and scoring.
    """

    name: str
    counts: dict[str, tuple[tuple[int, int | float], ...]]
    curve: Curve
    wall_s: float


class TrainedBaselines(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """seed-N/baselines-LEVEL.json: finished baselines, and the settings and patients they are of.

    Attributes:
        data: fingerprint of all patients.
    """

    schema: Schema = SCHEMA

    settings: dict[str, Any]
    data: str
    baselines: tuple[TrainedBaseline, ...]


class CompareFile(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """The content of compare.json.

    Attributes:
        complete: nothing is missing.
        settings: that every run shares, but for what may differ.
        audit_effort: None where there were no audits.
        audited: run directory -> its audit.
        baselines_refused: why baselines that were asked for are not trained.
        notes: for the user.
    """

    NAME: ClassVar[str] = "compare.json"
    schema: Schema = SCHEMA

    securefed: str
    complete: bool
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    delta: float
    privacy_unit: str
    accountant: str
    adjacency: str
    audit_effort: str | None
    audited: dict[str, Audited]
    same_within_a_seed: tuple[Same, ...]
    configurations: tuple[ConfigurationRow, ...]
    baselines: tuple[BaselineRow, ...]
    baselines_refused: str | None
    data_efficiency: DataEfficiency | None
    starting_report: StartingReport
    notes: tuple[str, ...]

    @property
    def rows(self) -> tuple[ConfigurationRow | BaselineRow, ...]:
        """Configurations, then baselines."""
        return (*self.configurations, *self.baselines)
