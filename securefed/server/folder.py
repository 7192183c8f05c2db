"""A server's folder in a federation on machines of its own (securefed/server/federation.py)."""

import shutil
from pathlib import Path

from securefed.errors import ConfigurationError
from securefed.record import anchors
from securefed.wire import agreement as agreement_file
from securefed.wire.agreement import FederationAgreement


def create(folder: Path, agreement: Path, after: Path | None = None) -> FederationAgreement:
    """Make a folder for the run of an agreement.

    Args:
        after: another server's folder, whose memory of hospitals' ledgers is taken over.

    Raises:
        ConfigurationError: there is something in it, no such agreement, or `after` is no server's.
        RunError: what `after` remembers is damaged.
    """
    found = agreement_file.read(agreement)
    if after is not None:
        read(after)
    seen = anchors.read(after) if after else {}
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigurationError(
            f"{folder} is not empty", hint="one folder is one run; name a new one"
        )
    folder.chmod(0o700)
    shutil.copyfile(agreement, folder / agreement_file.NAME)
    if seen:
        anchors.append(folder, seen)
    return found


def read(folder: Path) -> FederationAgreement:
    """The agreement of a server's folder.

    Raises:
        ConfigurationError: it is none.
    """
    if not (folder / agreement_file.NAME).is_file():
        a_hospital_s = (folder / "site.yaml").is_file()  # server/ does not know hospital/
        raise ConfigurationError(
            f"{folder} is no server's folder (no {agreement_file.NAME})",
            hint="it is a hospital's: securefed client"
            if a_hospital_s
            else "securefed deploy server makes one",
        )
    return agreement_file.read(folder / agreement_file.NAME)
