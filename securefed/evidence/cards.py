"""Whether the model's card says what the records say: it goes with the model, and is signed."""

from collections.abc import Iterator

import msgspec

from securefed.files import read_bounded
from securefed.model_card import card
from securefed.model_card.words import in_words
from securefed.record.audit import AuditFile
from securefed.record.mismatch import Mismatch
from securefed.record.model_card import ModelCard
from securefed.run_directory import Run

LARGEST_WORDS = 2**20  # bytes
MISSING = "missing: securefed audit or evaluate writes it again"
AUDIT = "audit"


def of_records(run: Run) -> Iterator[Mismatch]:
    """The card but for its audit; evaluations are kept in it alone, and taken as they are."""
    expected, kept = _both(run)
    if expected is None:
        return  # an audit took it away, or there is no model
    if kept is None:
        yield Mismatch(ModelCard.NAME, MISSING)
        return
    for name in kept.__struct_fields__:
        if name != AUDIT and getattr(kept, name) != getattr(expected, name):
            yield Mismatch(ModelCard.NAME, f"its {name} is not what the records give")
    words = run.path / card.WORDS
    if not words.is_file():
        yield Mismatch(card.WORDS, MISSING)
    elif read_bounded(words, LARGEST_WORDS) != in_words(kept).encode():
        yield Mismatch(card.WORDS, f"is not {ModelCard.NAME} in words")


def of_audit(run: Run) -> Iterator[Mismatch]:
    """What the card tells of the audit."""
    expected, kept = _both(run)
    if expected is not None and kept is not None and kept.audit != expected.audit:
        yield Mismatch(ModelCard.NAME, f"does not tell the audit as {AuditFile.NAME} has it")


def _both(run: Run) -> tuple[ModelCard | None, ModelCard | None]:
    """What the records give with the evaluations that are kept, and what is kept."""
    there = (run.path / ModelCard.NAME).is_file()
    kept = ModelCard.read(run.path) if there else None
    expected = card.of_records(run.path)
    if expected is not None and kept is not None:
        expected = msgspec.structs.replace(expected, evaluations=kept.evaluations)
    return expected, kept
