"""The policy: what counts as a leak, and which controls make an answer count, read from YAML.

No threshold stands in code. Every threshold and gate carries its reason, because the person who
answers for it is not the one who wrote it. `policies/default.yaml` is a starting point with the
gates that the attacks themselves are tested against. A policy may set other gates, but none
without a positive and a null control for each attack that it judges.
"""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attacks.errors import PolicyError
from attacks.families import FamilyName
from attacks.findings import Scene

Text = Annotated[str, Field(min_length=1)]
Figure = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

MAXIMUM_BYTES = 1 << 16


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Threshold(Entry):
    """A leakage figure (larger is worse) and the most it may be; None: reported, not judged.

    With `required: false` a figure that is withheld, for want of patients, leaves no gap.
    """

    attack: FamilyName
    metric: Text
    scene: Scene
    at_most: Figure | None
    required: bool = True
    reason: Text


class Gate(Entry):
    """Where a control must lie: exactly one of at_least, at_most, holds.

    `holds` is a value that the control's confidence interval must contain.
    """

    attack: FamilyName
    control: Text
    kind: Literal["positive", "null"]
    metric: Text
    at_least: Figure | None = None
    at_most: Figure | None = None
    holds: Figure | None = None
    reason: Text

    @model_validator(mode="after")
    def _one_condition(self) -> "Gate":
        given = [x for x in (self.at_least, self.at_most, self.holds) if x is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of at_least, at_most, holds")
        return self


class PowerRule(Entry):
    """How much power makes a claim count that a family's lower bound does not contradict."""

    minimum_power: Share
    reason: Text


class Policy(Entry):
    """Thresholds, gates and who set them; a key that names a family holds its PowerRule."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[FamilyName, PowerRule] = Field(init=False)
    schema_version: Literal[1] = Field(alias="schema")
    name: Text
    set_by: Text
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    primary: dict[FamilyName, Text]
    thresholds: list[Threshold]
    gates: list[Gate]

    @model_validator(mode="after")
    def _no_repetition(self) -> "Policy":
        for name, keys in (
            ("thresholds", [" / ".join((t.attack, t.metric, t.scene)) for t in self.thresholds]),
            ("gates", [" / ".join((g.attack, g.control, g.metric)) for g in self.gates]),
        ):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            if twice:
                raise ValueError(f"{name} name {twice[0]} twice")
        return self

    @model_validator(mode="after")
    def _both_controls(self) -> "Policy":
        gated = {(gate.attack, gate.kind) for gate in self.gates}
        for limit in self.thresholds:
            for kind in ("positive", "null"):
                if limit.at_most is not None and (limit.attack, kind) not in gated:
                    raise ValueError(f"{limit.attack} is judged without a {kind} control")
        return self

    def power(self, attack: str) -> PowerRule | None:
        """What the policy asks of a family whose estimates are lower bounds."""
        return self.__pydantic_extra__.get(attack)

    def threshold(self, attack: str, metric: str, scene: str) -> Threshold | None:
        wanted = (attack, metric, scene)
        found = (t for t in self.thresholds if (t.attack, t.metric, t.scene) == wanted)
        return next(found, None)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: the second would win without a word."""


def _mapping_without_repetition(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in mapping:
            raise yaml.YAMLError(f"{key!r} is given twice, line {key_node.start_mark.line + 1}")
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repetition)


def load_policy(path: Path | None = None) -> Policy:
    """Read a policy file, or the default one.

    Raises:
        PolicyError: unreadable, not YAML, unknown keys, wrong types, or a contradiction.
    """
    source = path or resources.files("attacks") / "policies" / "default.yaml"
    try:
        content = source.read_bytes()
    except OSError as error:
        raise PolicyError(f"cannot read the policy {source}: {error.strerror}") from None
    if len(content) > MAXIMUM_BYTES:
        raise PolicyError(f"the policy {source} has {len(content)} bytes, over {MAXIMUM_BYTES}")
    try:
        # A SafeLoader: it builds plain values only.
        return Policy.model_validate(yaml.load(content, Loader=_Loader))  # noqa: S506
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        raise PolicyError(f"the policy {source} is not YAML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PolicyError(
            f"policy {source}: {place}: {first['msg']}",
            hint="attacks/policies/default.yaml shows every key",
        ) from None
