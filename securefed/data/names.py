"""Names that people and spreadsheets write: which name nobody, which are one name written twice.

Identifiers of patients and names of sites come from tables kept by hand. A name becomes a folder, a
line of a log, a cell of a table, so it is checked where it is read; nothing is repaired in silence.
Two names are alike (`spelling`) if they differ in capitals, blanks, signs, invisible characters,
leading zeros, or in how a spreadsheet writes a number. Alike is a doubt, not a proof: who uses it
names both and merges neither.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable

from securefed.errors import DataError

LONGEST_NAME = 100  # characters
_LONGEST_SITE = 60  # it becomes a folder
# What pandas, spreadsheets, archives and anonymisers write where they know nothing.
# fmt: off
_NOBODY = frozenset((
    "nan", "na", "n.a.", "n/a", "nat", "none", "null", "nil", "<na>", "inf", "-inf", "undefined",
    "#n/a", "#na", "#null!", "#ref!", "#value!", "#name?", "#num!", "#div/0!", "(blank)", "(empty)",
    "unknown", "unspecified", "missing", "empty", "blank", "not available", "not applicable",
    "anon", "anonym", "anonymous", "anonymized", "anonymised", "deidentified", "de-identified",
    "removed", "redacted", "unbekannt", "inconnu", "desconocido", "sconosciuto", "no id", "no name",
    "noname", "not known", "unknown patient", "tbd", "n.d.", "k.a.", "keine", "patient",
    "patient id", "patient_id", "patientid", "xxx", "xxxx", "n a",
))
# fmt: on
# With the sign that spreadsheets and pandas write; "12e7" may be a part of a hash.
_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?[eE][+-]\d{2,3}")
_FORMULA = re.compile(r"[=@]|[+-](?![\d.,]+$)")
_WHOLE = re.compile(r"(\d+)[.,]0*")
_LETTERS = str.maketrans("авсенкмортху", "abcehkmoptxy")  # Cyrillic that looks Latin
_RUNS = re.compile(r"\d+|[^\W\d_]+")
_SITE = re.compile(r"\w[\w .,()'&+-]*")  # of the composed form: a mark apart is no letter
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # Windows


def require_patient(name: str, among: Collection[str] = ()) -> str:
    """A patient's identifier, as it is.

    Args:
        among: other identifiers of its table, which tell a number from a placeholder.

    Raises:
        DataError: empty, a placeholder, a formula, too long, or of characters that no name has.
    """
    _require_text("patient_id", name, LONGEST_NAME)
    if stands_for_nobody(name, among):
        raise DataError(f"patient_id {name!r} stands for no patient; several may share it")
    if _SCIENTIFIC.fullmatch(name):
        raise DataError(
            f"patient_id {name!r} is a number that a spreadsheet has shortened; several patients "
            "may share it"
        )
    _require_no_formula("patient_id", name)
    return name


def require_cell(what: str, text: str) -> str:
    """What a table says beside names, as it is, since it is written into tables again.

    Raises:
        DataError: a formula, too long, or of characters that no name has.
    """
    if require_readable(what, text):
        _require_no_formula(what, text)
    return text


def require_readable(what: str, text: str) -> str:
    """What a table says, as it is, where it is only shown.

    Raises:
        DataError: too long, or of characters that no name has.
    """
    if text:
        _require_text(what, text, LONGEST_NAME)
    return text


def require_site(name: str) -> str:
    """A site's name, as it is: it may become a folder and a cell of a table.

    Raises:
        DataError: empty, a placeholder, too long, a path, or of signs that no name needs.
    """
    _require_text("site", name, _LONGEST_SITE)
    if stands_for_nobody(name):
        raise DataError(
            f"site {name!r} stands for no site", hint="give the name that others know it by"
        )
    # Begins with a letter or a digit: neither "..", nor an option, nor a spreadsheet's formula.
    fits = _SITE.fullmatch(unicodedata.normalize("NFC", name))
    if not fits or name.endswith(".") or _RESERVED.fullmatch(name):
        raise DataError(
            f"site {name!r} cannot be the name of a folder; use letters, digits, blanks and .,-()",
            hint="give it another name",
        )
    return name


def spelling(name: str) -> tuple[str, ...]:
    """What is left of a name without capitals, signs, blanks and leading zeros; alike if equal."""
    plain = folded(name).translate(_LETTERS)
    whole = _WHOLE.fullmatch(plain)  # 7.0 is what pandas makes of 7
    runs = _RUNS.findall(whole[1] if whole else plain)
    return tuple(run.lstrip("0") or "0" if run.isdigit() else run for run in runs) or (plain,)


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of two or more different names that are alike, in order of their first."""
    groups: dict[tuple[str, ...], dict[str, None]] = {}
    for name in names:
        groups.setdefault(spelling(name), {})[name] = None
    return [tuple(group) for group in groups.values() if len(group) > 1]


def folded(name: str) -> str:
    """One form of letters, in lower case, without what cannot be seen, blanks single."""
    seen = (c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return " ".join("".join(seen).casefold().split())


def shown(name: str) -> str:
    """A name in quotes, with what cannot be seen written out, and marks apart from their letters.

    Two names that look alike are told apart so.
    """
    if unicodedata.is_normalized("NFC", name):
        return f"'{visible(name)}'"
    return "'" + "".join(map(_apart, name)) + "'"


def visible(text: str) -> str:
    """Text with what cannot be seen written out: no line breaks, no colours of a terminal."""
    return "".join(map(_visible, text))


def _apart(character: str) -> str:
    mark = unicodedata.category(character).startswith("M")
    return character.encode("unicode_escape").decode() if mark else _visible(character)


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if character == " " or category[0] not in "CZ":
        return character
    return character.encode("unicode_escape").decode()


def _require_text(what: str, name: str, longest: int) -> None:
    if not name.strip():
        raise DataError(f"{what} is empty")
    if len(name) > longest:
        raise DataError(f"{what} {name[:20]!r}... is longer than {longest} characters")
    # Line breaks and escape sequences would forge lines of a log or colours of a terminal.
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise DataError(f"{what} {name!r} holds control characters")


def _require_no_formula(what: str, name: str) -> None:
    # Some spreadsheets take the wide signs of East Asian letters for the narrow ones.
    if _FORMULA.match(unicodedata.normalize("NFKC", name)):
        raise DataError(
            f"{what} {name!r} is a formula where a spreadsheet opens a table with it",
            hint="begin it with a letter or a digit",
        )


def stands_for_nobody(name: str, among: Collection[str] = ()) -> bool:
    """Whether a name is what is written where nobody knows one; `among` as in `require_patient`."""
    plain = folded(name)
    if plain in _NOBODY or not any(character.isalnum() for character in plain):
        return True
    if set(plain) in ({"0"}, {"9"}) and (len(plain) > 1 or plain == "0"):
        # 0 and 00 are nobody, but for where people are counted from there.
        neighbour = int(plain) + (1 if plain[0] == "0" else -1)
        return str(neighbour).zfill(len(plain)) not in among
    return False
