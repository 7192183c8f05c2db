"""anchors.jsonl: how far the server has seen each hospital's ledger, as the hospital signed it.

What a hospital signs is of no use to anybody else: how many rows its ledger had, and their hash.
Handed back to it, the hospital knows by its own signature that the ledger was so once.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from securefed.errors import RunError
from securefed.record import lines
from securefed.wire.hello import Anchor

NAME = "anchors.jsonl"
LARGEST_FILE = 16 * 2**20  # bytes


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    hospital: str
    anchor: Anchor


def read(folder: Path) -> dict[str, Anchor]:
    """The last one of each hospital; none before the first job.

    Raises:
        RunError: damaged; the line is named.
    """
    each = lines.read_as(folder / NAME, LARGEST_FILE, _Line)
    return {one.hospital: one.anchor for one in each}


def append(folder: Path, anchors: Mapping[str, Anchor]) -> None:
    """Add what hospitals signed; on disk at return.

    Raises:
        RunError: it cannot be written.
    """
    rows = [_Line(hospital=name, anchor=anchor) for name, anchor in sorted(anchors.items())]
    try:
        lines.append(folder / NAME, map(msgspec.json.encode, rows))
    except OSError as error:
        raise RunError(f"cannot write {folder / NAME}: {error.strerror}") from None
