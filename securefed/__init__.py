"""SecureFed: federated learning on paired CT and MRI scans, with its leaks measured.

From Python: `securefed.run`, `resume`, `load`, `open_run`, `plan`, `settings` (docs/python-api.md).
The command line is `securefed`; see docs/ for the threat model and its limits.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securefed.api import load, open_run, plan, resume, run, settings
    from securefed.budget import Budget
    from securefed.config import Settings
    from securefed.record.run import Run

__version__ = "0.1.0"

__all__ = ["Budget", "Run", "Settings", "load", "open_run", "plan", "resume", "run", "settings"]

# name -> module. Loaded on first use, so that `import securefed` costs nothing.
_LAZY = {
    "Budget": "securefed.budget",
    "Run": "securefed.record.run",
    "Settings": "securefed.config",
    **dict.fromkeys(("load", "open_run", "plan", "resume", "run", "settings"), "securefed.api"),
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
