"""Makers' and technologists' words, made comparable."""

import re
import unicodedata
from typing import Any

from pydicom.dataset import Dataset


def plain_words(text: str) -> str:
    """Lower case without accents, words apart: "3PlaneLoc_SSFSE" is "3plane loc ssfse"."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"(?i)\bw/o\b", "without", plain)
    apart = re.sub(r"(?<=[a-z]{2})(?=[A-Z])", " ", plain)  # but "mIP" and "eADC" are one word
    return " ".join(re.findall(r"[a-z0-9*+]+", apart.lower()))


def any_of(words: str) -> re.Pattern[str]:
    """Finds one of the alternatives as a word of its own in plain words, "t2*" too."""
    return re.compile(rf"(?<![a-z0-9])({words})(?![a-z0-9*+])")


def words_of(header: Dataset, keyword: str) -> str:
    """A header value as plain words; "" where it is absent."""
    return plain_words(str(header.get(keyword, "") or ""))


def private_value(header: Dataset, group: int, creator: str, element: int) -> Any:
    """The value of a maker's own element; None where it is absent."""
    # Looking for a block costs more than all else of a header, and most have none.
    if not any(tag >> 16 == group for tag in header.keys()):  # noqa: SIM118 - tags, not elements
        return None
    try:
        return header.private_block(group, creator)[element].value
    except KeyError:
        return None


def values_of(header: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a header field, in capitals."""
    value = header.get(keyword, None) or ()
    each = [value] if isinstance(value, str) else value
    return tuple(str(item).strip().upper() for item in each)
