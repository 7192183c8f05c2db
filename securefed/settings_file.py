"""Reading YAML: settings and policies, without the surprise that could change what they promise.

PyYAML lets the last of two equal keys win without a word, so that a second `privacy:` section
would silently drop the first with its epsilon; here that is refused, as YAML 1.2 asks. Only plain
data is built (SafeLoader): a tag that names a Python object is an error.
"""

import re
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import Any

import yaml

from securefed.errors import ConfigurationError
from securefed.files import read_bounded

LARGEST_FILE = 2**20  # bytes


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value} stands there twice",
                        problem_mark=key.start_mark,
                    )
                seen.add(key.value)
        return node


# YAML 1.1, which PyYAML follows, reads 1e-5 as text; everybody means the number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+\Z"), list("-+0123456789")
)


def read(
    path: Traversable,
    what: str = "settings file",
    example: str = "configs/default.yaml",
    missing: str = "give an existing YAML file, such as configs/default.yaml",
) -> dict[str, Any]:
    """The keys and values of a YAML file; one of comments alone has none.

    Args:
        what: the file is, in words.
        example: where a user finds how every key is written.
        missing: what to do where it cannot be read.

    Raises:
        ConfigurationError: the file cannot be read, is too large, is empty, is not YAML, names a
            key twice, or holds something else than keys and values.
    """
    hint = f"{example} shows how every key is written"
    content = read_bounded(path, LARGEST_FILE, error=ConfigurationError, hint=missing)
    if not content.strip():  # what a full disk or a slip leaves; nobody meant all defaults by it
        raise ConfigurationError(f"the {what} {path} is empty", hint=hint)
    try:
        # A loader that builds plain data only, like yaml.safe_load's.
        values = yaml.load(content.decode(), _Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"the {what} {path} is not valid YAML: {_explain(error)}", hint=hint
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"the {what} {path} must hold keys and values, got {type(values).__name__}", hint=hint
        )
    return values


def dotted(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}, "a.c": 2} -> {"a.b": 1, "a.c": 2}, in order.

    Raises:
        ConfigurationError: a key is no text, or is given twice.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise ConfigurationError(
                f"keys of settings are text, got {key!r}", hint="put it in quotes"
            )
        whole = f"{above}{key}"
        inner = dotted(value, f"{whole}.") if isinstance(value, Mapping) else {whole: value}
        if repeated := flat.keys() & inner.keys():
            raise ConfigurationError(f"{min(repeated)} is given twice", hint="give it once")
        flat |= inner
    return flat


def _explain(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        problem = " ".join(str(part) for part in (error.context, error.problem) if part)
        return f"{problem} (line {error.problem_mark.line + 1})"
    return str(error).replace("\n", " ")
