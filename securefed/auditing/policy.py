"""Reading a policy: the types are of attacks.policy, the file is read as any settings file."""

from pathlib import Path

from pydantic import ValidationError

from attacks.policy import DEFAULT, Policy
from securefed import settings_file
from securefed.errors import ConfigurationError

EXAMPLE = "attacks/policies/default.yaml"


def read_policy(path: Path | None = None) -> Policy:
    """A policy file, or the default one.

    Raises:
        ConfigurationError: unreadable, not YAML, unknown keys, wrong types, or a contradiction.
    """
    source = path or DEFAULT
    try:
        return Policy.model_validate(settings_file.read(source, "policy", EXAMPLE))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigurationError(
            f"policy {source}: {place}: {first['msg']}", hint=f"{EXAMPLE} shows every key"
        ) from None
