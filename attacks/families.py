"""The attack families, a line each: name and the module that holds its `FAMILY`.

In the order in which an audit runs them: cheap answers first. Imports no family until one is asked
for, so that a command line and a policy can name them without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

if TYPE_CHECKING:
    from attacks.family import Family

FAMILIES = {
    "direct tests": "attacks.direct_tests.family",
    "head leakage": "attacks.head.family",
    "epsilon": "attacks.epsilon.family",
    "inversion": "attacks.inversion.family",
    "property inference": "attacks.properties.family",
    "source inference": "attacks.source.family",
    "membership": "attacks.membership.family",
    "malicious server": "attacks.malicious_server.family",
}


def family(name: str) -> "Family":
    """The family of that name, of `FAMILIES`."""
    module = import_module(FAMILIES[name])
    loaded: Family = module.FAMILY
    return loaded


def _listed(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"there is no attack family {name!r}, only {', '.join(FAMILIES)}")
    return name


FamilyName = Annotated[str, AfterValidator(_listed)]
