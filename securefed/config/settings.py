"""All settings of a run, one model per section, and what must hold between them.

Precedence: defaults, then the YAML file, then the command line (loading.py).

How well patients are protected is decided by `privacy` and `secure_aggregation`. What else an
observer may see depends on `federation` (which parameters travel, how often and from how many;
where scores are exact, every `evaluate_every` rounds totals of them), `canaries`, and
`evaluation.baselines`, which train and report more on the same patients. `exposures` only says what
of that is kept.
"""

from itertools import chain
from typing import Literal

from pydantic import Field, model_validator

from securefed.config import contradictions
from securefed.config.audit import CanarySettings, EvaluationSettings, ExposureSettings
from securefed.config.data import DataSettings
from securefed.config.federation import FederationSettings, SecureAggregationSettings
from securefed.config.model import ModelSettings, TaskSettings
from securefed.config.privacy import PrivacySettings
from securefed.config.section import Section
from securefed.config.training import TrainingSettings

Configuration = Literal["plain", "dp", "secure", "dp+secure"]


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
    def smallest_matters(self) -> bool:
        """Whether everybody's noise follows from how many patients the smallest hospital has."""
        return self.privacy.placement == "distributed" and self.training.sample_rate is None

    @property
    def auditable(self) -> bool:
        """Whether attacks know what the released model is, the last round's, and whole updates."""
        return self.federation.patience is None and self.federation.sent_share == 1

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        found = chain(
            contradictions.of_classes(self.task),
            contradictions.of_phantoms(self.data, self.task),
            contradictions.of_the_circle(self.federation, self.secure_aggregation),
            contradictions.of_patients(self.training, self.privacy, self.secure_aggregation),
            contradictions.of_augmentation(self.training, self.model),
            contradictions.of_baselines(self.evaluation, self.privacy, self.data),
            contradictions.of_the_network(self.model, self.federation, self.privacy),
            contradictions.of_early_stop(self.federation, self.privacy, self.model),
            contradictions.of_a_share(self.federation, self.privacy, self.canaries),
            contradictions.of_a_reference(self.privacy),
            contradictions.of_shared_noise(
                self.privacy, self.secure_aggregation, self.training, self.federation, self.model
            ),
        )
        for contradiction in found:
            raise ValueError(contradiction)
        return self
