"""The audit of one run of a comparison: made once per effort, and again if its file has changed."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from securefed.auditing.choices import Effort
from securefed.record.audit import AuditFile
from securefed.record.comparison import Audited
from securefed.record.run import Run

Tell = Callable[[str, float], None]  # what is being done, and the finished share


def make_audit(run: Run, effort: Effort, tell: Tell) -> AuditFile:
    """Audit a finished run.

    Raises:
        KeyboardInterrupt: Ctrl-C; the run keeps the part that was finished.
    """
    from securefed.auditing.audit import audit_run

    audit_run(run.path, effort=effort, report=tell)
    audit = AuditFile.read(run.path)
    if audit.interrupted:  # the comparison stops as well
        raise KeyboardInterrupt
    return audit


def audited(path: Path, effort: Effort) -> Audited:
    """What to remember of the audit in a run's directory."""
    content = (path / AuditFile.NAME).read_bytes()
    return Audited(effort=effort, sha256=hashlib.sha256(content).hexdigest())


def is_audited(
    path: Path, folder: Path, effort: Effort | None, before: Mapping[str, Audited]
) -> bool:
    """Whether a run's audit is one that an earlier comparison finished with this effort.

    Args:
        before: run directory, relative to `folder` -> its audit.
    """
    if effort is None or not (path / AuditFile.NAME).is_file():
        return False
    # By its hash, because an audit that was stopped, or made by hand, leaves an audit.json too.
    return before.get(path.relative_to(folder).as_posix()) == audited(path, effort)
