"""report.json: the types of everything that the report page says.

The page is drawn from these values and from nothing else, so that whoever cannot read a page (a
script, a screen, a second auditor) has the same facts. `json_schema` gives the published JSON
Schema, docs/schemas/report.schema.json. A value that is unknown or does not apply is null, and the
field beside it says why. Lengths are bytes, times are seconds, rates and AUCs are 0 to 1. What
another file of the run says already stands here in that file's own type (`securefed.record`).
"""

import json
from typing import Any, ClassVar, Literal

import msgspec

from securefed.model.calibration import Calibration
from securefed.record.evaluation import AtThresholds
from securefed.record.inventory import InputFile
from securefed.record.json_file import SCHEMA, JsonFile, Schema
from securefed.record.metrics import RoundLine
from securefed.record.mismatch import Mismatch
from securefed.record.summary import ClassScores, Confusion, HospitalSummary, Scores
from securefed.reporting.attack_facts import Audit
from securefed.reporting.comparison_facts import Comparison

Answer = Literal["PASS", "INCONCLUSIVE", "INVALID", "FAIL", "NOT AUDITED"]


class Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the run claims. `sentence` has epsilon with all that it means nothing without.

    `plainly` says the same without the field's words; "" where nothing is bounded.
    `adjacency` and `sampling` are fixed by the accounting; all other fields are null without DP.
    `odds_factor` is e^epsilon: how much more likely any conclusion can become through one record.
    `evaluation` says what held-out patients are promised; `evaluation_epsilon` is null for nothing.
    `together` says what holds for a person who is a patient of several of the hospitals.
    """

    dp: bool
    sentence: str
    noise: str
    plainly: str = ""
    epsilon: float | None = None
    delta: float | None = None
    unit: str | None = None
    adjacency: str | None = None
    sampling: str | None = None
    accountant: str | None = None
    placement: str | None = None
    clip_norm: float | None = None
    odds_factor: float | None = None
    evaluation: str = ""
    evaluation_epsilon: float | None = None
    together: str = ""


class Sight(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one observer sees of a run, in words; `bound` says what limits it.

    `exposed`: one hospital's update can be told from the others'. `short` is for the first screen.
    """

    observer: str
    who: str
    short: str
    sees: str
    bound: str
    exposed: bool


class Uncovered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that a run gives away outside epsilon: to whom, how exact, what makes it less."""

    what: str
    who: str
    form: str
    less: str


class ClassFacts(ClassScores, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several classes against the rest. `called`: its held-out patients by the class they
    were called, in the order of the classes; `unsure`: the AUC is not to be put forward."""

    patients: float
    called: tuple[int | float, ...]
    sensitivity_ci95: tuple[float, float] | None
    specificity_ci95: tuple[float, float] | None
    roc: tuple[tuple[float, float], ...] | None
    unsure: bool


class Utility(Scores, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Held-out performance of the final model; `roc` as (false-, true-positive rate).

    `noise`: standard deviation of the noise in each count behind it, null where they are exact.
    `declared_with_noise`: so is the number of training patients. `unsure` names figures whose 95%
    interval is too wide for them to be put forward; `cautions` say what must be said beside the
    figures. `answers_alike`, that the answers at probability one half do not follow the truth, is
    one of them; "" where that does not hold or the patients are too few. `classes`: each of
    several, in place of `confusion` and `roc`. `thresholds` is null
    where the counts are not of labels 0 and 1, or of one alone.
    """

    classes: tuple[ClassFacts, ...] = ()
    patients: int
    training_patients: int | None
    declared_with_noise: bool
    sensitivity_ci95: tuple[float, float] | None = None
    specificity_ci95: tuple[float, float] | None = None
    accuracy_ci95: tuple[float, float] | None = None
    local_auc: float | None
    noise: float | None
    confusion: Confusion | None
    roc: tuple[tuple[float, float], ...] | None
    calibration: Calibration | None
    thresholds: AtThresholds | None
    unsure: list[str]
    cautions: list[str]
    answers_alike: str


class Mechanism(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Equal DP-SGD steps in a ledger."""

    noise_multiplier: float
    sample_rate: float
    steps: int
    noise_from: int


class LedgerFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One hospital's privacy ledger, composed anew by both accountants.

    `told` says what is wrong with it; then it counts for nothing, and all figures are null.
    """

    hospital: str
    budget: float | None
    epsilon_prv: float | None
    epsilon_rdp: float | None
    delta: float | None
    unit: str | None
    reservations: int | None
    mechanisms: list[Mechanism]
    told: str = ""


class Flow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages of one stage that left one hospital."""

    hospital: str
    stage: str
    messages: int
    bytes: int


class Egress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every byte that left each hospital; `source` names the file that was counted."""

    source: str
    complete: bool
    note: str
    flows: list[Flow]
    total_up: int
    total_down: int


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    value: str


class RunFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything about one run. `folder` is relative to the reported directory, "" for itself.

    `title` is what a page calls it. `place` is its path from the folder that the reported directory
    lies in: from there every command of the page can be typed as it stands.
    `label_of`: what has a label, a patient, a study or a slice; patients count one all the same.
    `auditable`: whether attacks know what the released model is.
    `banners` stand above everything else: what the run must not be taken for. `hidden` says what
    masks hide and from how many hospitals; null without them.
    `evidence` says where its files contradict each other or are missing. What such a file says is
    left out, the verdict is FAIL and no epsilon is claimed.
    """

    folder: str
    title: str
    place: str
    run: str
    configuration: str
    verdict: Answer
    verdict_words: str
    evidence: tuple[Mismatch, ...]
    simulation: str | None
    label_of: str
    canaries: int | None
    banners: list[str]
    two_hospitals: bool
    rounds: int
    clients: int
    privacy: Privacy
    sights: list[Sight]
    outside_epsilon: list[Uncovered]
    hidden: str | None
    utility: Utility
    hospitals: tuple[HospitalSummary, ...]
    unsure_hospitals: list[str]
    curve: tuple[RoundLine, ...]
    ledgers: list[LedgerFacts]
    egress: Egress | None
    audit: Audit | None
    wall_seconds: float
    settings: list[Setting]
    environment: list[Setting]
    warnings: tuple[str, ...]
    auditable: bool = True


class Risk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something to change, in the runs named by their titles.

    `grave` orders them, 100 first; `evidence` names the section.
    `commands` are what to type for it, where that is complete as it stands.
    """

    runs: list[str]
    title: str
    why: str
    change: str
    commands: list[str]
    evidence: str
    grave: int


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure of this report and where it stands: a JSON pointer into report.json."""

    run: str
    says: str
    pointer: str


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question of a source, and what this report has to say to it; no evidence: unanswered."""

    source: str
    place: str
    question: str
    evidence: list[Evidence]
    unanswered: str
    section: str


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    word: str
    meaning: str


class Report(JsonFile, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root of report.json. Times are UTC, ISO 8601."""

    NAME: ClassVar[str] = "report.json"
    schema: Schema = SCHEMA

    kind: Literal["run", "compare"]
    title: str
    made: str
    securefed: str
    runs: list[RunFacts]
    comparison: Comparison | None
    risks: list[Risk]
    questions: list[Question]
    limits: list[str]
    glossary: list[Term]
    inputs: list[InputFile]

    @property
    def parts(self) -> "list[RunFacts]":
        """What a verdict is of, each."""
        return self.runs


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of report.json."""
    return schema_of(Report, "SecureFed report, schema 1")


def schema_of(kind: type[JsonFile], title: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a file."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **msgspec.json.schema(kind),
    }
    return json.loads(json.dumps(schema))  # type: ignore[no-any-return]  # defaults: as it is read
