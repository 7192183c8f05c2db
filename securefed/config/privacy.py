"""How well patients are protected from what a model tells."""

from typing import Literal

from pydantic import Field

from securefed.config.section import MOST_HOSPITALS, Section
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Noise


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
    reference_epsilon: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="Part of epsilon, at most a quarter, for what training patients' scans look "
        "like, told once with noise, so that the model can say which scans are unlike them; null: "
        "nothing is told.",
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
    def describes(self) -> bool:
        """Whether a run tells what training patients' scans look like; without dp exactly."""
        return self.reference_epsilon is not None

    @property
    def noise(self) -> Noise:
        """Where the noise of a run with these settings comes from."""
        if not self.dp:
            return "none"
        return "seeded" if self.seeded_noise else "cryptographic"
