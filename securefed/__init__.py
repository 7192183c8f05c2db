"""SecureFed: federated learning on scans of several modalities, with its leaks measured.

From Python: `securefed.run`, `resume`, `load`, `open_run`, `audit`, `plan`, `settings`,
`load_model`, `predict` (docs/python-api.md).
The command line is `securefed`; see docs/ for the threat model and its limits.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securefed.api import audit, load, open_run, plan, resume, run, settings
    from securefed.budget import Budget
    from securefed.config.settings import Settings
    from securefed.prediction.model import ReleasedModel, load_model
    from securefed.prediction.predict import predict
    from securefed.record.audit import AuditFile
    from securefed.run_directory import Run

__version__ = "0.1.0"

__all__ = [
    "AuditFile",
    "Budget",
    "ReleasedModel",
    "Run",
    "Settings",
    "audit",
    "load",
    "load_model",
    "open_run",
    "plan",
    "predict",
    "resume",
    "run",
    "settings",
]

# name -> module. Loaded on first use, so that `import securefed` costs nothing.
_LAZY = {
    "AuditFile": "securefed.record.audit",
    "Budget": "securefed.budget",
    "ReleasedModel": "securefed.prediction.model",
    "Run": "securefed.run_directory",
    "Settings": "securefed.config.settings",
    "load_model": "securefed.prediction.model",
    "predict": "securefed.prediction.predict",
    **dict.fromkeys(
        ("audit", "load", "open_run", "plan", "resume", "run", "settings"), "securefed.api"
    ),
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
