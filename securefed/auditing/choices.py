"""What an audit can be asked for. Imports no torch, so that the command line can offer it."""

from typing import Literal

from attacks.families import FAMILIES
from securefed.config import Settings
from securefed.errors import ConfigurationError

ATTACKS = tuple(FAMILIES)
Effort = Literal["quick", "default", "thorough"]

# Processor time of an audit of a default run with canaries: every family, every observer. Two cores
# with nothing else to do take between half of it and all of it.
PROCESSOR_SECONDS: dict[Effort, float] = {"quick": 190.0, "default": 690.0, "thorough": 3600.0}


def processor_minutes(effort: Effort) -> str:
    """ "3 minutes of processor time", in words for a help text."""
    return f"{PROCESSOR_SECONDS[effort] / 60:.0f} minutes of processor time"


def require_auditable(settings: Settings) -> None:
    """Raises ConfigurationError where no attack knows such a model, or such updates."""
    share = settings.federation.sent_share
    if share < 1:
        # Attacks would match zeros that nobody computed: weaker ones than an attacker has.
        raise ConfigurationError(
            f"attacks know whole updates, and with federation.sent_share: {share} a part travels",
            hint="audit a run with federation.sent_share: 1; a comparison takes --no-audit",
        )
    if not settings.auditable:
        raise ConfigurationError(
            "an audit takes the released model for the last round's, and with "
            f"federation.patience: {settings.federation.patience} it is the best one's",
            hint="audit a run of as many rounds without it; a comparison takes --no-audit",
        )
