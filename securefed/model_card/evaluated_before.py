"""Who was evaluated for a card, kept beside it and private, so that no two evaluations tell of few.

Two evaluations that differ by one patient tell how the model did on that one: the difference of
their figures is of nobody else. So a card takes no evaluation of nearly the patients of one that it
had, whichever is on it now, since cards are copied; nor of the same patients with other scans or
labels, who may be other for one of them. Patients are told by their ids alone: an answer's last
digits change with whom it was computed together with.

Not looked at are three evaluations or more together, as when two groups and their union with one
patient more are evaluated.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec

from securefed.errors import RunError
from securefed.files import create_private, read_bounded
from securefed.record.json_file import decode
from securefed.wording import counted

NAME = "evaluated.jsonl"
FEWEST = 5  # patients that an evaluation has to have more, or less, than another
LARGEST = 2**28  # bytes
TOKEN = 12  # bytes of a patient's


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line: without it nobody can try who was evaluated."""

    key: str


class _Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each other line: who was evaluated, as tokens."""

    data: str
    patients: tuple[str, ...]


def remember(folder: Path, data: str, patients: Iterable[str], known: Iterable[str]) -> None:
    """Note who is evaluated, before their figures go onto the card.

    Args:
        folder: of the card; held by the caller alone.
        data: digest of what is evaluated.
        patients: their ids. Told apart, never written.
        known: digests of evaluations that are on the card.

    Raises:
        RunError: few patients more or less than in an evaluation of before, or the same with other
            data; one on the card that nothing is known of; or a damaged file.
        OSError: it cannot be written.
    """
    path = folder / NAME
    lines = read_bounded(path, LARGEST).splitlines() if path.is_file() else []
    key = decode(lines[0], _Key, str(path)).key if lines else secrets.token_hex(32)
    before = {one.data: one for one in (decode(line, _Evaluation, str(path)) for line in lines[1:])}
    if data in before:
        return
    if unknown := [each for each in known if each not in before and each != data]:
        raise RunError(
            f"the card has {counted(len(unknown), 'evaluation')} of nobody knows whom ({NAME} does "
            "not tell), and two of nearly the same patients would tell of those they differ by",
            hint="evaluate for a card that has none, or with --no-card",
        )
    now = {_token(key, each) for each in patients}
    for each in before.values():
        then = set(each.patients)
        if max(len(now - then), len(then - now)) < FEWEST:
            raise RunError(
                f"these are, by their ids, but for fewer than {FEWEST} the patients of an "
                "evaluation that the card had, and both together would tell of those few",
                hint=f"evaluate when {FEWEST} or more are new, or with --no-card",
            )
    lines = lines or [msgspec.json.encode(_Key(key))]
    lines.append(msgspec.json.encode(_Evaluation(data, tuple(sorted(now)))))
    partial = path.with_name(f"{NAME}.partial")
    partial.unlink(missing_ok=True)  # of a crash
    create_private(partial, b"".join(line + b"\n" for line in lines))
    partial.replace(path)


def _token(key: str, patient: str) -> str:
    return hmac.new(bytes.fromhex(key), patient.encode(), hashlib.sha256).hexdigest()[: 2 * TOKEN]
