"""Writes docs/configuration.md and configs/default.yaml from the fields of securefed/config.

    python docs/generate_configuration.py

A test compares both files with what this script would write, so neither can drift from the code.
"""

import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from securefed.config import ClassName, File, Modality, OneOf, Scanners, Settings
from securefed.hospital.policy import Policy

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "configuration.md"
DEFAULTS = ROOT / "configs" / "default.yaml"

WIDTH = 100  # of lines in the YAML file

PAGE_INTRO = """\
# Every key of the configuration file

<!-- Written by docs/generate_configuration.py from securefed/config; change that instead. -->

A run takes its settings from the defaults, then from the YAML file after `--config`, then from the
command line. [`configs/default.yaml`](../configs/default.yaml) holds every key with its default;
the other files in `configs/` name only what differs. Values are checked strictly: an unknown key, a
wrong type (`rounds: "80"`), a value out of range or a contradiction ends the command with exit code
2, the path of the key and a hint, before any patient is read.

What an observer can learn is decided by [`privacy`](#privacy), by
[`secure_aggregation`](#secure_aggregation) and by [`federation.shared`](#federationshared);
[`federation.evaluate_every`](#federationevaluate_every) sets how often exact totals over held-out
patients are released, where [no noise](#privacyevaluation_epsilon) protects them;
[`evaluation.baselines`](#evaluationbaselines) spends more of the training patients' privacy. The
other keys do not change it.

"""

POLICY_INTRO = """\
## A hospital's policy

`policy.yaml` in a site's folder ([federation](federation.md)): what the hospital takes part in at
all, whatever it has agreed to. What the file leaves out has the default; a file that is missing
refuses everything. What patients may spend over all runs is in the ledger:
`securefed ledger budget`.
"""

YAML_INTRO = """\
# Every setting with its default. Copy what you want to change; the rest may be left out.
# Written by docs/generate_configuration.py; docs/configuration.md has ranges and remarks.
"""

Entry = tuple[str, FieldInfo]  # dotted key, field


def entries(model: type[BaseModel], prefix: str = "") -> Iterator[Entry]:
    """All keys of a model in order, sections before what is in them."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        yield key, field
        if section := _section(field):
            yield from entries(section, f"{key}.")


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def page() -> str:
    """The text of docs/configuration.md."""
    chapters = [_chapter(key, field) for key, field in entries(Settings)]
    policy = [_chapter(f"policy.{key}", field) for key, field in entries(Policy)]
    return PAGE_INTRO + "\n".join([*chapters, POLICY_INTRO, *policy])


def _chapter(key: str, field: FieldInfo) -> str:
    if section := _section(field):
        first_line = (section.__doc__ or "").strip().splitlines()[0]
        return f"## {key}\n\n{first_line}\n"
    heading = "###" if "." in key else "##"
    rows = [f"- type: {_type(field)}"]
    if interval := _range(field):
        rows.append(f"- range: {interval}")
    rows.append(f"- default: {_yaml_default(field)}")
    return f"{heading} {key}\n\n{field.description}\n\n" + "\n".join(rows) + "\n"


def _type(field: FieldInfo) -> str:
    for choice in (m for m in field.metadata if isinstance(m, OneOf)):
        return "one of " + ", ".join(f"`{name}`" for name in choice.registry)
    annotation = field.annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    names: dict[Any, str] = {
        int: "whole number",
        float: "number",
        bool: "`true` or `false`",
        str: "name",
        tuple[Modality, ...]: "list of names",
        tuple[ClassName, ...]: "list of names",
        tuple[Scanners, ...]: "list of lists of names",
        Path: "path",
        tuple[File, ...]: "list of paths",
        tuple[str, ...]: "list of digests",
        tuple[str, str]: "two times",
    }
    if origin in (Union, types.UnionType):
        (wanted,) = [kind for kind in arguments if kind is not type(None)]
        return f"{names[wanted]}, or `null` for not set"
    if annotation is None:
        raise TypeError("a setting without a type")
    return names[annotation]


def _range(field: FieldInfo) -> str:
    return ", ".join(_bound(bound) for bound in field.metadata if _bound(bound))


def _bound(bound: object) -> str:
    match bound:
        case annotated_types.Ge(ge=limit):
            return f"at least {_number(limit)}"
        case annotated_types.Gt(gt=limit):
            return f"above {_number(limit)}"
        case annotated_types.Le(le=limit):
            return f"at most {_number(limit)}"
        case annotated_types.Lt(lt=limit):
            return f"below {_number(limit)}"
    return ""  # strictness, which has no bound


def _number(value: Any) -> str:
    return "2^63" if value == 2**63 else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _yaml_default(field: FieldInfo) -> str:
    return f"`{_scalar(field.default)}`"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and "." not in repr(value):
        return f"{value:g}"
    return str(value)


def defaults() -> str:
    """The text of configs/default.yaml."""
    lines = [YAML_INTRO.rstrip()]
    for key, field in entries(Settings):
        indent = "  " * key.count(".")
        name = key.rsplit(".", 1)[-1]
        if _section(field):
            lines.append(f"{indent}{name}:" if indent else f"\n{name}:")
            continue
        blank = "\n" if not indent else ""
        remark = textwrap.wrap(field.description or "", WIDTH - len(indent) - 2)
        lines.append(blank + "\n".join(f"{indent}# {line}" for line in remark))
        lines.append(f"{indent}{name}: {_scalar(field.default)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    PAGE.write_text(page())
    DEFAULTS.write_text(defaults())
    for path in (PAGE, DEFAULTS):
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
