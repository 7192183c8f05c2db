"""The settings of a run: one pydantic model per section, strict, with unknown keys refused.

Precedence: defaults, then the YAML file, then the command line. `load` turns each mistake into a
ConfigurationError that names the key's path.

How well patients are protected is decided by `privacy` and `secure_aggregation`. What else an
observer may see depends on `federation` (which parameters travel, how often and from how many;
where scores are exact, every `evaluate_every` rounds totals of them), `canaries`, and
`evaluation.baselines`, which train and report more on the same patients. `exposures` only says what
of that is kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from securefed import settings_file
from securefed.errors import ConfigurationError
from securefed.model.strategies import STRATEGIES, build_strategy
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Noise

MOST_HOSPITALS = 10_000
#: With everybody masking with everybody the server holds 1.3 kB for each pair of them.
MOST_IN_COMPLETE_GRAPH = 1_000

EVERY_KEY = "docs/configuration.md explains every key"

Configuration = Literal["plain", "dp", "secure", "dp+secure"]


@dataclass(frozen=True)
class OneOf:
    """A name from a registry, so that whatever is added to the registry is a setting too."""

    registry: Mapping[str, object]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._require, handler(source))

    def _require(self, name: str) -> str:
        if name not in self.registry:
            *others, last = map(repr, self.registry)
            raise ValueError(f"Input should be {', '.join(others)} or {last}")
        return name


File = Annotated[Path, Field(strict=False)]
Encoder = Literal[
    "compact",
    "resnet18",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "compact3d",
    "r3d_18",
]
SHIPPED_FOR = ("compact", "compact3d")  # encoders that the shipped weights are of, or fit
VOLUME_ENCODERS = ("compact3d", "r3d_18")  # what they make of a slice, its neighbours tell too
Modality = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]
Scanners = Annotated[tuple[Modality, ...], Field(strict=False)]  # what a hospital acquires


class Section(BaseModel):
    """A group of settings; frozen, so that what run.json records is what ran."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PhantomSettings(Section):
    """The built-in synthetic patients, used when `data.manifest` is not set."""

    patients: int = Field(300, ge=4, le=1_000_000, description="Training patients per hospital.")
    test_patients: int = Field(
        100, ge=2, le=1_000_000, description="Held-out patients per hospital."
    )
    contrast: float = Field(4.0, gt=0, le=20, description="Lesion contrast; higher is easier.")
    dissociated: float = Field(
        0.3,
        ge=0,
        le=1,
        description="rho: share of negatives with all findings, one of them at another place.",
    )
    single_evidence: float = Field(
        1.0, ge=0, le=1, description="kappa: share of the other negatives with one finding."
    )
    scattered: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of negatives with all findings at one place, but at another in each "
        "slice: only encoders of volumes can tell them. rho and kappa are of the others.",
    )
    missing_query: float = Field(
        0.05, ge=0, le=0.9, description="Share of patients without the query's modality."
    )
    missing_context: float = Field(
        0.05,
        ge=0,
        le=0.9,
        description="Share of patients without one of the context, for each of them.",
    )
    site_shift: float = Field(
        0.5, ge=0, le=1, description="How much scanners and case mix differ between hospitals."
    )
    scanners: tuple[Scanners, ...] = Field(
        (),
        strict=False,
        description="What each hospital can acquire, from the first on and over again: "
        "[[ct], [mri], [ct, mri]]; empty: every modality.",
    )


class DataSettings(Section):
    """Where the patients come from and how they are split (always by patient)."""

    manifest: Path | None = Field(
        None, strict=False, description="CSV manifest of real scans; not set: phantom patients."
    )
    partition: Literal["site", "iid", "dirichlet"] = Field(
        "iid", description="How a manifest's patients are dealt to hospitals."
    )
    dirichlet_alpha: float = Field(
        0.5, gt=0, le=1000, description="Label skew of the dirichlet partition; lower is more."
    )
    test_fraction: float = Field(
        0.25, gt=0, lt=1, description="Chance of a patient to be held out (manifest only)."
    )
    max_unusable: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Largest share of a manifest's rows that may be unusable; a run goes on "
        "without them.",
    )
    allow_duplicates: bool = Field(
        False,
        description="Train with differential privacy although some patient ids seem to be one "
        "person's; epsilon is then per id, not per person (manifest only).",
    )
    site_key: Path | None = Field(
        None,
        strict=False,
        description="File with the site's secret, which decides who is held out and who goes to "
        "which simulated hospital; not set: beside the folder of the data, FOLDER.site-key, made "
        "if it is not there (manifest only).",
    )
    phantom: PhantomSettings = PhantomSettings()


class TaskSettings(Section):
    """What is asked of the scans."""

    example: Literal["patient", "study", "slice"] = Field(
        "patient",
        description="What a label is of: the patient as a whole, each study (the manifest's column "
        "study), or each slice. A patient's examples train as one record: the mean of their "
        "losses, clipped once.",
    )


class ModelSettings(Section):
    """The network."""

    query: Modality = Field(
        "ct",
        description="The modality whose places are classified: NAME of the manifest's NAME_path.",
    )
    context: tuple[Modality, ...] = Field(
        ("mri",),
        min_length=1,
        max_length=5,
        strict=False,
        description="The modalities that the query attends to, one to five; what it finds in each "
        "is joined with its own features.",
    )
    encoder: Encoder = Field(
        "compact",
        description="Encoder of each modality; compact3d and r3d_18 see volumes, all others each "
        "slice alone.",
    )
    image_size: int = Field(
        64, ge=32, le=512, description="Slices are resized to this edge, pixels."
    )
    harmonise: bool = Field(
        False,
        description="Bring each scan but CT to a public standard scale of grey values, by its own "
        "deciles; no statistic of other patients.",
    )
    width: int = Field(8, ge=4, le=512, description="Features per place of an encoder's map.")
    attention_width: int = Field(8, ge=2, le=512, description="Width of query, key and value.")
    head_width: int = Field(8, ge=2, le=512, description="Hidden units of the classifier.")
    initialisation: Literal["public", "random"] = Field(
        "public",
        description="Encoders start from public single-modality weights, or at random.",
    )
    weights: tuple[File, ...] = Field(
        (),
        max_length=6,
        strict=False,
        description="Files of those weights (safetensors), from securefed pretrain or "
        "convert-weights; none: the shipped ones. None of the patients may have been used for "
        "them.",
    )
    train_encoders: bool = Field(
        False, description="Train the encoders too, not only fusion and classifier."
    )

    @property
    def modalities(self) -> tuple[str, ...]:
        """All of them, the query first."""
        return (self.query, *self.context)


class TrainingSettings(Section):
    """Local training of each hospital."""

    optimizer: Literal["adam", "sgd"] = Field("sgd", description="Local optimizer.")
    learning_rate: float = Field(0.3, gt=0, le=100, description="Local learning rate.")
    local_steps: int = Field(1, ge=1, le=100_000, description="Optimizer steps per round.")
    batch_size: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Expected number of patients per step. With privacy.dp it is what every noised "
        "sum is divided by, and the least that a hospital declares.",
    )
    max_slices: int = Field(
        12, ge=1, le=512, description="Slices per example (task.example); more are subsampled."
    )
    modality_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Chance of an example (task.example) of several modalities to be shown to a "
        "step with one of them only, so that the model learns to do with what a hospital has.",
    )


class PrivacySettings(Section):
    """Differential privacy (DP-SGD) at each hospital."""

    dp: bool = Field(True, description="Train with differential privacy.")
    epsilon: float = Field(8.0, gt=0, le=1000, description="Budget of the whole run, per hospital.")
    delta: float = Field(1e-5, gt=0, lt=1, description="Must be below 1 / patients.")
    clip_norm: float = Field(1.0, gt=0, le=1e6, description="L2 clip of one record's gradient.")
    unit: Literal["patient", "image"] = Field(
        "patient", description="What one record is; image is weaker and labelled so."
    )
    accountant: Accountant = Field("prv", description="Headline accountant.")
    placement: Literal["local", "distributed"] = Field(
        "local",
        description="Whose noise it is: each hospital's own, or one noise that all share out "
        "inside the secure sum (smaller, and relies on the others).",
    )
    colluding: int = Field(
        1,
        ge=0,
        lt=MOST_HOSPITALS,
        description="Hospitals that may pool what they know, beside the server; their noise is not "
        "counted (placement distributed).",
    )
    patients_epsilon: float | None = Field(
        0.5,
        gt=0,
        le=1000,
        description="Part of epsilon, at most a quarter, for the number of training patients that "
        "a hospital declares once, with noise; null: exact, and not covered by epsilon.",
    )
    evaluation_epsilon: float | None = Field(
        2.0,
        gt=0,
        le=1000,
        description="Budget of held-out patients, beside epsilon: the final model is scored once, "
        "with noise; null: exact totals, every federation.evaluate_every rounds.",
    )
    seeded_noise: bool = Field(
        False, description="Noise from the seed: reproducible, for research, no real protection."
    )

    @property
    def noise(self) -> Noise:
        """Where the noise of a run with these settings comes from."""
        if not self.dp:
            return "none"
        return "seeded" if self.seeded_noise else "cryptographic"


class FederationSettings(Section):
    """Rounds, participation and aggregation."""

    clients: int = Field(4, ge=2, le=MOST_HOSPITALS, description="Number of hospitals.")
    rounds: int = Field(80, ge=1, le=100_000, description="Rounds of training.")
    shared: Literal["classifier", "fusion+classifier", "all"] = Field(
        "fusion+classifier",
        description="Parameters that are aggregated; the rest stays in the hospital.",
    )
    strategy: Annotated[str, OneOf(STRATEGIES)] = Field(
        "fedadam", description="How the server uses the mean update."
    )
    proximal: float = Field(0.01, ge=0, le=100, description="FedProx mu.")
    server_learning_rate: float = Field(0.03, gt=0, le=10, description="FedAdam step size.")
    clients_per_round: int | None = Field(
        None, ge=2, le=MOST_HOSPITALS, description="Sampled cohort per round; not set: everybody."
    )
    minimum_clients: int = Field(
        2, ge=2, le=MOST_HOSPITALS, description="Fewer survivors abort the round."
    )
    timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="A slower client is dropped, seconds."
    )
    evaluate_every: int = Field(
        5,
        ge=1,
        le=100_000,
        description="Rounds between lines on the terminal, and between evaluations where scores "
        "are exact (privacy.evaluation_epsilon).",
    )


class SecureAggregationSettings(Section):
    """Masking of updates by pairwise keys."""

    enabled: bool = Field(True, description="The server sees only the sum of updates.")
    value_range: float = Field(
        4.0, gt=0, le=1e6, description="Largest absolute value of one weighted update entry."
    )
    max_patients: int = Field(
        10_000, ge=1, le=1_000_000, description="Largest number of training patients of a hospital."
    )
    rounding_error: float = Field(
        1e-5,
        gt=0,
        le=1,
        description="Largest error that rounding may add to an entry of the mean update, where "
        "hospitals have training.batch_size patients on average; with more of them it is smaller. "
        "Masked words have as few bits as that takes, 32 at most.",
    )
    allow_two_party: bool = Field(
        False, description="Allow two hospitals, where each can subtract its own update."
    )
    graph: Literal["complete", "sparse"] = Field(
        "complete",
        description="Who masks with whom: everybody with everybody, or from 64 hospitals on each "
        "with a few. Sparse needs every hospital in every round.",
    )


class ExposureSettings(Section):
    """Recording of what each observer saw, the material of an audit."""

    record: bool = Field(True, description="Keep the messages of the run in exposures/.")
    limit_mb: int = Field(
        256, ge=1, le=1_000_000, description="Beyond it only sizes are kept, megabytes."
    )


class EvaluationSettings(Section):
    """What is measured besides the global model."""

    baselines: bool = Field(
        False,
        description="Also train each hospital and each modality alone, and report them.",
    )


class CanarySettings(Section):
    """Made-up records among one hospital's patients, so that an audit can test its epsilon."""

    count: int = Field(
        0, ge=0, le=100_000, description="Canaries that get a coin each; 0 for a run without."
    )
    hospital: int = Field(
        1, ge=1, le=MOST_HOSPITALS, description="Whose records they join: hospitals counted from 1."
    )


class Settings(Section):
    """All settings of a run."""

    data: DataSettings = DataSettings()
    task: TaskSettings = TaskSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    privacy: PrivacySettings = PrivacySettings()
    federation: FederationSettings = FederationSettings()
    secure_aggregation: SecureAggregationSettings = SecureAggregationSettings()
    exposures: ExposureSettings = ExposureSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    canaries: CanarySettings = CanarySettings()
    seed: int = Field(
        0, ge=0, lt=2**63, description="Data, initial weights, cohorts; not the noise."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train.")

    @property
    def configuration(self) -> Configuration:
        """Which of the four configurations this is."""
        if self.privacy.dp:
            return "dp+secure" if self.secure_aggregation.enabled else "dp"
        return "secure" if self.secure_aggregation.enabled else "plain"

    @property
    def auditable(self) -> bool:
        """Whether attacks know such patients: they model one label each."""
        return self.task.example == "patient"

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        federation, modalities = self.federation, self.model.modalities
        if len(set(modalities)) < len(modalities):
            raise ValueError(
                f"model.context: of the query and its context ({', '.join(modalities)}) one is "
                "named twice"
            )
        cohort = federation.clients_per_round or federation.clients
        if cohort > federation.clients:
            raise ValueError(
                f"federation.clients_per_round: {cohort} is more than federation.clients "
                f"({federation.clients})"
            )
        if federation.minimum_clients > cohort:
            raise ValueError(
                f"federation.minimum_clients: {federation.minimum_clients} is more than the "
                f"{cohort} hospitals asked per round"
            )
        two_party = self.secure_aggregation.enabled and cohort == 2
        if two_party and not self.secure_aggregation.allow_two_party:
            raise ValueError(
                "secure_aggregation.allow_two_party: with two hospitals each can subtract its own "
                "update from the sum and sees the other's; set it to true to accept that, add a "
                "third hospital, or do without masks (--no-secure)"
            )
        if self.secure_aggregation.graph == "sparse" and federation.clients_per_round:
            # Whoever chooses the cohort chooses who masks with whom.
            raise ValueError(
                "secure_aggregation.graph: sparse needs every hospital in every round; leave out "
                "federation.clients_per_round, or use complete"
            )
        if (
            self.secure_aggregation.enabled
            and self.secure_aggregation.graph == "complete"
            and cohort > MOST_IN_COMPLETE_GRAPH
        ):
            raise ValueError(
                f"secure_aggregation.graph: complete is for at most {MOST_IN_COMPLETE_GRAPH} "
                f"hospitals in a round, got {cohort}; use sparse, or fewer "
                "(federation.clients_per_round)"
            )
        most = self.secure_aggregation.max_patients
        if self.privacy.dp and self.privacy.unit == "patient" and self.training.batch_size > most:
            raise ValueError(
                f"training.batch_size: {self.training.batch_size} is more than "
                f"secure_aggregation.max_patients ({most}), and no hospital declares fewer "
                "patients than a batch; lower the one or raise the other"
            )
        real = self.data.manifest is not None
        if self.evaluation.baselines and self.privacy.dp and real:
            raise ValueError(
                "evaluation.baselines: baselines release more about the patients than epsilon pays "
                "for; with real scans use them without DP (--no-dp) only"
            )
        if self.model.weights and self.model.initialisation == "random":
            raise ValueError(
                "model.initialisation: random, and model.weights names files; leave one out"
            )
        shipped = self.model.initialisation == "public" and not self.model.weights
        if shipped and self.model.encoder not in SHIPPED_FOR:
            raise ValueError(
                f"model.initialisation: no public weights for {self.model.encoder} are shipped; "
                "name files of them (model.weights), or use random with model.train_encoders: true"
            )
        if self.privacy.unit == "image" and self.model.encoder in VOLUME_ENCODERS:
            raise ValueError(
                f"privacy.unit: to {self.model.encoder} an image tells about its neighbours, so "
                "that it has a part in several records; use patient"
            )
        if federation.shared == "all" and not self.model.train_encoders:
            raise ValueError(
                "federation.shared: all needs model.train_encoders: true (frozen encoders do not "
                "change, so there is nothing to share)"
            )
        if shipped and not self.model.train_encoders and self.model.encoder in VOLUME_ENCODERS:
            raise ValueError(
                f"model.train_encoders: the public weights are of slices, and {self.model.encoder} "
                "learns from there what their neighbours tell; set it to true"
            )
        left_at_random = self.model.initialisation == "random" and not self.model.train_encoders
        if left_at_random and self.model.encoder == "compact":
            raise ValueError(
                "model.initialisation: random needs model.train_encoders: true (frozen random "
                "encoders learn nothing, and there are public weights for compact)"
            )
        if self.privacy.placement == "distributed":
            contradiction = _contradiction_of_distributed_noise(self)
            if contradiction:
                raise ValueError(contradiction)
        return self


def _contradiction_of_distributed_noise(settings: Settings) -> str | None:
    """What makes privacy.placement: distributed impossible, with the keys to change."""
    shared = "all" if settings.model.train_encoders else "fusion+classifier"
    needed = (
        ("privacy.dp", settings.privacy.dp, True),
        ("privacy.unit", settings.privacy.unit, "patient"),
        ("secure_aggregation.enabled", settings.secure_aggregation.enabled, True),
        ("training.local_steps", settings.training.local_steps, 1),
        ("training.optimizer", settings.training.optimizer, "sgd"),
        # What is trained and not shared would need noise of the hospital's own.
        ("federation.shared", settings.federation.shared, shared),
    )
    for key, found, wanted in needed:
        if found != wanted:
            values = f"{str(wanted).lower()}, got {str(found).lower()}"
            return f"privacy.placement: distributed needs {key}: {values}"
    federation = settings.federation
    if build_strategy(federation.strategy, federation).proximal:
        return (
            "privacy.placement: distributed needs federation.strategy: one without a proximal "
            f"term, got {federation.strategy}, whose term is zero in a round's only step"
        )
    return None


def _paths(section: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _paths(kind, f"{above}{name}.")
        elif Path in (kind, *get_args(kind)):
            yield f"{above}{name}"


#: Settings that are paths. One may name a person or a hospital's share: no page repeats it.
PATHS = frozenset(_paths(Settings))


def load(path: Path | None, overrides: dict[str, Any]) -> Settings:
    """Read settings from a YAML file and lay the command line's values over them.

    Args:
        path: YAML file, or None for the defaults.
        overrides: dotted key -> value, e.g. {"privacy.epsilon": 4.0}.

    Raises:
        ConfigurationError: file unreadable, unknown key, wrong type, or a contradiction.
    """
    values: dict[str, Any] = settings_file.read(path) if path else {}
    for key, value in overrides.items():
        *sections, name = key.split(".")
        place = values
        for depth, section in enumerate(sections, start=1):
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigurationError(
                    f"{'.'.join(sections[:depth])} must be a section of keys, got {place!r}"
                    f"{_in(path)}",
                    hint=EVERY_KEY,
                )
        place[name] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _explain(error, path, overrides) from None


def _explain(
    error: ValidationError, path: Path | None, overrides: Mapping[str, Any]
) -> ConfigurationError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    # A value that was typed is not the file's fault, and a contradiction may be between the two.
    place = "" if key in overrides else _in(path)
    if path and not key and overrides:
        place = f" ({path} and the command line together)"
    if first["type"] == "extra_forbidden":
        return ConfigurationError(
            f"unknown key {key}{place}", hint=f"known here: {', '.join(_siblings(first['loc']))}"
        )
    message = first["msg"].removeprefix("Value error, ")
    if not key:  # a contradiction names its key itself
        return ConfigurationError(message + place, hint=EVERY_KEY)
    got = first.get("input")
    return ConfigurationError(
        f"{key}: {message[:1].lower()}{message[1:]}, got {got!r}{place}",
        hint=EVERY_KEY,
    )


def _in(path: Path | None) -> str:
    return f" (in {path})" if path else ""


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in loc[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)
