"""policy.yaml: what a hospital takes part in at all, whatever it has agreed to. It fails closed.

Held against a job before anything is read, and against the hour before each piece of work. What a
hospital's patients may spend over all runs is not here but in its ledger, where it is spent.
"""

import re
from datetime import datetime, time
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from securefed import settings_file
from securefed.config import MOST_HOSPITALS, Section, Settings
from securefed.errors import ConfigurationError, PolicyRefused
from securefed.secure_sum import cohort_size
from securefed.settings_file import dotted

NAME = "policy.yaml"
SHORTEST_DIGEST = 32  # digits; who makes a file could find two with the same 16
EXAMPLE = "docs/configuration.md, 'A hospital's policy',"


class Policy(Section):
    """The content of policy.yaml; what it leaves out has the default."""

    run_epsilon: float = Field(
        8.0, gt=0, le=1000, description="Largest epsilon of one run, for training patients."
    )
    evaluation_epsilon: float = Field(
        2.0, gt=0, le=1000, description="Largest epsilon of one run, for held-out patients."
    )
    differential_privacy: bool = Field(True, description="Refuse runs without it.")
    secret_noise: bool = Field(True, description="Refuse noise that follows from a seed.")
    secure_aggregation: bool = Field(True, description="Refuse runs without masks.")
    smallest_cohort: int = Field(
        3,
        ge=2,
        le=MOST_HOSPITALS,
        description="Fewest hospitals that a round asks, this one included.",
    )
    smallest_training_set: int = Field(
        20, ge=1, le=1_000_000, description="Fewest patients here that anybody trains on."
    )
    largest_update: int = Field(
        50_000_000, ge=1, le=2**31, description="Most shared parameters in one update."
    )
    keep_contributions: bool = Field(
        True, description="Allow site.yaml to keep what is sent, for this hospital's own audits."
    )
    agreements: tuple[str, ...] | None = Field(
        None,
        strict=False,
        description="Digests, or their first 32 digits at least, of the only agreements that may "
        "be trained under; null: all that were accepted here.",
    )
    hours: tuple[str, str] | None = Field(
        None,
        strict=False,
        description="Local time of day between which this hospital works, such as "
        '["20:00", "06:00"]; null: always.',
    )

    @field_validator("agreements")
    @classmethod
    def _digests(cls, agreements: tuple[str, ...] | None) -> tuple[str, ...] | None:
        lower = agreements and tuple(each.lower() for each in agreements)
        for each in lower or ():
            if not re.fullmatch(f"[0-9a-f]{{{SHORTEST_DIGEST},64}}", each):
                raise ValueError(
                    f"{each!r} is no digest: {SHORTEST_DIGEST} to 64 digits of 0-9 and a-f"
                )
        return lower

    @field_validator("hours")
    @classmethod
    def _times(cls, hours: tuple[str, str] | None) -> tuple[str, str] | None:
        for each in hours or ():
            try:
                time.fromisoformat(each)
            except ValueError:
                raise ValueError(f'{each!r} is no time of day such as "20:00"') from None
        return hours

    def require(self, settings: Settings, digest: str, parameters: int, patients: int) -> None:
        """Refuse a job that this hospital takes no part in.

        Args:
            digest: of the agreement.
            parameters: that are shared.
            patients: this hospital's, to train on.

        Raises:
            PolicyRefused: with the policy's key.
        """
        privacy, cohort = settings.privacy, cohort_size(settings)
        held_out = privacy.evaluation_epsilon
        masked = settings.secure_aggregation.enabled
        for key, refused, why in (
            (
                "agreements",
                self.agreements is not None and not digest.startswith(self.agreements),
                f"agreement {digest[:16]} is none of them",
            ),
            ("differential_privacy", self.differential_privacy and not privacy.dp, "there is none"),
            ("secret_noise", self.secret_noise and privacy.seeded_noise, "it follows from a seed"),
            ("secure_aggregation", self.secure_aggregation and not masked, "there is none"),
            (
                "run_epsilon",
                privacy.dp and privacy.epsilon > self.run_epsilon,
                f"the run has {privacy.epsilon:g}",
            ),
            (
                "evaluation_epsilon",
                privacy.dp and (held_out is None or held_out > self.evaluation_epsilon),
                f"the run has {'no limit' if held_out is None else f'{held_out:g}'}",
            ),
            ("smallest_cohort", cohort < self.smallest_cohort, f"a round asks {cohort} hospitals"),
            ("largest_update", parameters > self.largest_update, f"it has {parameters} parameters"),
            (
                "smallest_training_set",
                patients < self.smallest_training_set,
                f"{patients} patients are here",
            ),
            (
                "keep_contributions",
                settings.exposures.record and not self.keep_contributions,
                "site.yaml says exposures.record: true",
            ),
        ):
            if refused:
                demanded = str(getattr(self, key)).lower()
                raise PolicyRefused(
                    f"{NAME} has {key}: {demanded}, and {why}",
                    hint="whoever answers for the patients may change the policy, or leave it",
                    key=key,
                )

    def require_hour(self, now: datetime) -> None:
        """Refuse work outside the hours of this hospital.

        Raises:
            PolicyRefused: it is not the time.
        """
        if self.hours is None:
            return
        start, end = map(time.fromisoformat, self.hours)
        clock = now.time()
        inside = start <= clock < end if start <= end else clock >= start or clock < end
        if not inside:
            raise PolicyRefused(
                f"{NAME} has hours: {start:%H:%M} to {end:%H:%M}, it is {clock:%H:%M}",
                hint="work that the server still asks for then is taken up in them",
                key="hours",
            )


def read(path: Path) -> Policy:
    """A policy's file.

    Raises:
        ConfigurationError: unreadable, or a key or value that no policy has.
    """
    missing = f"without one nothing is taken part in: {EXAMPLE} has every key"
    values = settings_file.read(path, what="policy", example=EXAMPLE, missing=missing)
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        raise _explained(error, values, path) from None


def _explained(error: ValidationError, values: dict[str, Any], path: Path) -> ConfigurationError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    known = ", ".join(Policy.model_fields)
    if first["type"] == "extra_forbidden":
        return ConfigurationError(f"unknown key {key} in {path}", hint=f"known here: {known}")
    message = first["msg"].removeprefix("Value error, ")
    found = dotted(values).get(key)
    return ConfigurationError(
        f"{key}: {message}, got {found!r} in {path}", hint=f"{EXAMPLE} explains every key"
    )
