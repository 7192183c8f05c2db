"""Reading a settings file: YAML without the surprise that could change what a run promises.

PyYAML lets the last of two equal keys win without a word, so that a second `privacy:` section
would silently drop the first with its epsilon; here that is refused, as YAML 1.2 asks. Only plain
data is built (SafeLoader): a tag that names a Python object is an error.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from securefed.errors import ConfigurationError


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


def read(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file; an empty file has none.

    Raises:
        ConfigurationError: the file cannot be read, is not YAML, names a key twice, or holds
            something else than keys and values.
    """
    try:
        # A loader that builds plain data only, like yaml.safe_load's.
        values = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}", hint="give --config an existing YAML file"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} is not valid YAML: {_explain(error)}",
            hint="configs/default.yaml shows how every key is written",
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"{path} must hold keys and values, got {type(values).__name__}",
            hint="configs/default.yaml shows how every key is written",
        )
    return values


def _explain(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        problem = " ".join(str(part) for part in (error.context, error.problem) if part)
        return f"{problem} (line {error.problem_mark.line + 1})"
    return str(error).replace("\n", " ")
