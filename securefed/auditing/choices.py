"""What an audit can be asked for. Imports no torch, so that the command line can offer it."""

from typing import Literal

MALICIOUS = "malicious server"
ATTACKS = ("head leakage", "epsilon", "inversion", "membership", MALICIOUS)
Effort = Literal["quick", "default", "thorough"]
