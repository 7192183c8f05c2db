"""The accountants by name. A new one is a name here, and its bound in `accounting`."""

from typing import Literal

#: PRV (Gopi, Lee & Wutschitz 2021) or RDP (Mironov 2017); both give upper bounds.
Accountant = Literal["prv", "rdp"]
