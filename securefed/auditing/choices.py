"""What an audit can be asked for. Imports no torch, so that the command line can offer it."""

from typing import Literal

from attacks.families import FAMILIES

ATTACKS = tuple(FAMILIES)
Effort = Literal["quick", "default", "thorough"]
