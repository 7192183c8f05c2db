"""Settings that each are valid, and together are not: what is wrong, with the keys to change."""

from collections.abc import Iterator

from securefed.config.audit import CanarySettings, EvaluationSettings
from securefed.config.data import DataSettings
from securefed.config.federation import (
    MOST_IN_COMPLETE_GRAPH,
    FederationSettings,
    SecureAggregationSettings,
)
from securefed.config.model import SHIPPED_FOR, VOLUME_ENCODERS, ModelSettings, TaskSettings
from securefed.config.privacy import PrivacySettings
from securefed.config.training import TrainingSettings
from securefed.model.strategies import build_strategy


def of_classes(task: TaskSettings) -> Iterator[str]:
    """What labels tell apart."""
    classes = task.classes
    if 0 < len(classes) < 3:
        yield (
            f"task.classes: {' and '.join(classes)}: with two labels it is left out (labels 0 and "
            "1), otherwise it names three classes or more"
        )
    if len(set(classes)) < len(classes):
        yield f"task.classes: of {', '.join(classes)} one is named twice"
    if "all" in classes:  # tables have a line of that name
        yield "task.classes: all is what all classes together are called; name that one otherwise"


def of_phantoms(data: DataSettings, task: TaskSettings) -> Iterator[str]:
    """What is recorded of made-up patients."""
    if data.phantom.label_noise and (task.classes or task.example == "slice"):
        yield (
            "data.phantom.label_noise: is of patients with two labels; set it to 0, or leave out "
            "task.classes and task.example"
        )


def of_the_circle(
    federation: FederationSettings, masks: SecureAggregationSettings
) -> Iterator[str]:
    """How many hospitals, and who masks with whom."""
    cohort = federation.clients_per_round or federation.clients
    if cohort > federation.clients:
        yield (
            f"federation.clients_per_round: {cohort} is more than federation.clients "
            f"({federation.clients})"
        )
    if federation.minimum_clients > cohort:
        yield (
            f"federation.minimum_clients: {federation.minimum_clients} is more than the "
            f"{cohort} hospitals asked per round"
        )
    two_party = masks.enabled and cohort == 2
    if two_party and not masks.allow_two_party:
        yield (
            "secure_aggregation.allow_two_party: with two hospitals each can subtract its own "
            "update from the sum and sees the other's; set it to true to accept that, add a "
            "third hospital, or do without masks (--no-secure)"
        )
    if masks.graph == "sparse" and federation.clients_per_round:
        # Whoever chooses the cohort chooses who masks with whom.
        yield (
            "secure_aggregation.graph: sparse needs every hospital in every round; leave out "
            "federation.clients_per_round, or use complete"
        )
    if masks.enabled and masks.graph == "complete" and cohort > MOST_IN_COMPLETE_GRAPH:
        yield (
            f"secure_aggregation.graph: complete is for at most {MOST_IN_COMPLETE_GRAPH} "
            f"hospitals in a round, got {cohort}; use sparse, or fewer "
            "(federation.clients_per_round)"
        )


def of_patients(
    training: TrainingSettings, privacy: PrivacySettings, masks: SecureAggregationSettings
) -> Iterator[str]:
    """How many patients a hospital has at least, and at most, and how many of them a step draws."""
    most, batch, rate = masks.max_patients, training.batch_size, training.sample_rate
    if (batch is None) == (rate is None):
        both = "both say" if rate else "neither says"
        yield (
            f"training.sample_rate: {rate} and training.batch_size: {batch}: {both} how many "
            "patients a step draws; set one of them, and the other to null"
        )
    elif privacy.dp and privacy.unit == "patient" and training.sampling.least > most:
        which = f"batch_size: {batch}" if batch else f"sample_rate: one over {rate}"
        yield (
            f"training.{which} is more than "
            f"secure_aggregation.max_patients ({most}), and no hospital declares fewer "
            "patients than that; "
            + ("lower the one or raise the other" if batch else "raise either")
        )


def of_augmentation(training: TrainingSettings, model: ModelSettings) -> Iterator[str]:
    """Who sees changed pictures."""
    if training.augment and not model.train_encoders:
        yield (
            "training.augment: needs model.train_encoders: true (what frozen encoders make of the "
            "pictures is computed once)"
        )


def of_baselines(
    evaluation: EvaluationSettings, privacy: PrivacySettings, data: DataSettings
) -> Iterator[str]:
    """What is trained beside the global model."""
    real = data.manifest is not None
    if evaluation.baselines and privacy.dp and real:
        yield (
            "evaluation.baselines: baselines release more about the patients than epsilon pays "
            "for; with real scans use them without DP (--no-dp) only"
        )


def of_the_network(
    model: ModelSettings, federation: FederationSettings, privacy: PrivacySettings
) -> Iterator[str]:
    """What it sees, what it starts from, and what of it is trained."""
    modalities = model.modalities
    if len(set(modalities)) < len(modalities):
        yield (
            f"model.context: of the query and its context ({', '.join(modalities)}) one is "
            "named twice"
        )
    if model.weights and model.initialisation == "random":
        yield ("model.initialisation: random, and model.weights names files; leave one out")
    shipped = model.initialisation == "public" and not model.weights
    if shipped and model.encoder not in SHIPPED_FOR:
        yield (
            f"model.initialisation: no public weights for {model.encoder} are shipped; "
            "name files of them (model.weights), or use random with model.train_encoders: true"
        )
    if privacy.unit == "image" and model.encoder in VOLUME_ENCODERS:
        yield (
            f"privacy.unit: to {model.encoder} an image tells about its neighbours, so "
            "that it has a part in several records; use patient"
        )
    if federation.shared == "all" and not model.train_encoders:
        yield (
            "federation.shared: all needs model.train_encoders: true (frozen encoders do not "
            "change, so there is nothing to share)"
        )
    if shipped and not model.train_encoders and model.encoder in VOLUME_ENCODERS:
        yield (
            f"model.train_encoders: the public weights are of slices, and {model.encoder} "
            "learns from there what their neighbours tell; set it to true"
        )
    left_at_random = model.initialisation == "random" and not model.train_encoders
    if left_at_random and model.encoder == "compact":
        yield (
            "model.initialisation: random needs model.train_encoders: true (frozen random "
            "encoders learn nothing, and there are public weights for compact)"
        )


def of_early_stop(
    federation: FederationSettings, privacy: PrivacySettings, model: ModelSettings
) -> Iterator[str]:
    """What makes federation.patience impossible."""
    if federation.patience is None:
        return
    if privacy.dp and privacy.evaluation_epsilon is not None:
        yield (
            "federation.patience: held-out patients are scored once with noise, and which round "
            "was best would take many scorings that share privacy.evaluation_epsilon, each too "
            "noisy to choose by; leave it out, or set privacy.evaluation_epsilon: null, which "
            "covers none of them"
        )
    shared = "all" if model.train_encoders else "fusion+classifier"
    if federation.shared != shared:
        # What stays in the hospitals is of the last round, and does not go back to the best one.
        yield (
            f"federation.patience: needs federation.shared: {shared}, got {federation.shared}: "
            "parameters that stay in a hospital do not go back to the best round"
        )


def of_a_share(
    federation: FederationSettings, privacy: PrivacySettings, canaries: CanarySettings
) -> Iterator[str]:
    """What goes with sending all shared parameters alone."""
    if federation.sent_share == 1:
        return
    if privacy.placement == "distributed":
        yield (
            f"federation.sent_share: {federation.sent_share}: shared noise covers whole gradients; "
            "set it to 1, or privacy.placement to local"
        )
    if canaries.count:
        yield (
            f"federation.sent_share: {federation.sent_share}: canaries are whole gradients, and "
            "the audit takes them for that; set it to 1, or canaries.count to 0"
        )


def of_a_reference(privacy: PrivacySettings) -> Iterator[str]:
    """What scans look like is told of patients."""
    if privacy.dp and privacy.describes and privacy.unit != "patient":
        yield (
            "privacy.reference_epsilon: what scans look like is told of patients; set privacy.unit "
            "to patient, or leave it out"
        )


def of_shared_noise(
    privacy: PrivacySettings,
    masks: SecureAggregationSettings,
    training: TrainingSettings,
    federation: FederationSettings,
    model: ModelSettings,
) -> Iterator[str]:
    """What makes privacy.placement: distributed impossible."""
    if privacy.placement != "distributed":
        return
    shared = "all" if model.train_encoders else "fusion+classifier"
    needed = (
        ("privacy.dp", privacy.dp, True),
        ("privacy.unit", privacy.unit, "patient"),
        ("secure_aggregation.enabled", masks.enabled, True),
        ("training.local_steps", training.local_steps, 1),
        ("training.optimizer", training.optimizer, "sgd"),
        # What is trained and not shared would need noise of the hospital's own.
        ("federation.shared", federation.shared, shared),
    )
    for key, found, wanted in needed:
        if found != wanted:
            values = f"{str(wanted).lower()}, got {str(found).lower()}"
            yield f"privacy.placement: distributed needs {key}: {values}"
    if build_strategy(federation.strategy, federation).proximal:
        yield (
            "privacy.placement: distributed needs federation.strategy: one without a proximal "
            f"term, got {federation.strategy}, whose term is zero in a round's only step"
        )
