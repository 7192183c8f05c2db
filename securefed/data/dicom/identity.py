"""Whether the images of one PatientID are of one person.

An anonymiser may give everybody the same id, and two hospitals may use the same number. Name, birth
date, sex, age and the issuer of the id are compared; they are never written or shown. Names alone
prove little where the birth date agrees (marriage, spelling); where nothing else agrees, different
names are different people.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from pydicom.dataset import Dataset

from securefed.data.dicom.words import words_of
from securefed.data.names import stands_for_nobody

_AGE_TOLERANCE_YEARS = 2  # between studies, beyond the time that passed
_LETTERS = str.maketrans({"ø": "o", "æ": "a", "œ": "o", "ł": "l", "đ": "d", "ð": "d"})
_NO_BIRTHS = {"", "19000101", "18000101", "19700101", "00000000", "19010101"}


@dataclass(frozen=True)
class Person:
    """What a header says of the person; "" or None where it says nothing."""

    name: frozenset[str] = field(repr=False)  # words, in any order
    birth: str = field(repr=False)  # YYYYMMDD
    sex: str = field(repr=False)  # M or F
    issuer: str = field(repr=False)
    born_about: int | None = field(repr=False)  # year, from age and study date


def person_of(header: Dataset) -> Person:
    """The person of one image."""
    name = _name_of(header)
    birth = re.sub(r"\D", "", str(header.get("PatientBirthDate", "") or ""))
    sex = str(header.get("PatientSex", "") or "").strip().upper()[:1]
    return Person(
        name=frozenset() if stands_for_nobody(name) else frozenset(name.split()),
        birth="" if birth in _NO_BIRTHS else birth,
        sex=sex if sex in ("M", "F") else "",
        issuer=words_of(header, "IssuerOfPatientID"),
        born_about=_born_about(header),
    )


def _name_of(header: Dataset) -> str:
    """A name in small letters of any script, an umlaut as "ue" or without its dots the same."""
    text = str(header.get("PatientName", "") or "").casefold().translate(_LETTERS)
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(re.findall(r"[^\W_]+", re.sub("([aou])e", r"\1", plain)))


_ANONYMISED = 3  # ids with one name; more are an anonymiser's word, not a person


def traces(people: Mapping[str, Sequence[Person]]) -> dict[str, str]:
    """Patient -> words and birth date that give the person away under another id too, or "".

    Guarantee: what more than _ANONYMISED ids share is no trace.
    Secret: values are names; they go through a keyed hash before they go anywhere.
    """
    found = {patient: _trace(each) for patient, each in people.items()}
    counts = Counter(found.values())
    return {who: trace if counts[trace] <= _ANONYMISED else "" for who, trace in found.items()}


def _trace(people: Sequence[Person]) -> str:
    births = sorted({person.birth for person in people} - {""})
    names = sorted({" ".join(sorted(person.name)) for person in people} - {""})
    # One word without a birth date ("PHANTOM") is no person's name.
    if not names or not (births or " " in names[0]):
        return ""
    return f"{names[0]}|{births[0] if births else ''}"


def contradiction(people: Sequence[Person]) -> str | None:
    """Why people under one PatientID are not one person; None if they can be.

    Values are not in the text: it goes to a screen, perhaps to a log.
    """
    distinct = list(dict.fromkeys(people))
    fields: list[tuple[str, Callable[[Person], str]]] = [
        ("PatientBirthDate", lambda person: person.birth),
        ("PatientSex", lambda person: person.sex),
        ("IssuerOfPatientID", lambda person: person.issuer),
    ]
    differing = [word for word, value in fields if len(set(map(value, distinct)) - {""}) > 1]
    if _years_apart(distinct) > _AGE_TOLERANCE_YEARS and "PatientBirthDate" not in differing:
        differing.append("PatientAge")
    births = {person.birth for person in distinct}
    confirmed = len(births) == 1 and "" not in births
    if _names_differ(distinct) and (differing or not confirmed):
        differing.insert(0, "PatientName")
    return " and ".join(differing) if differing else None


def _names_differ(people: Sequence[Person]) -> bool:
    """Whether two names have words of their own; a name left out or another order is the same.

    Names in different scripts say nothing of each other.
    """
    names = [person.name for person in people if person.name]
    return any(
        first - second and second - first and _is_latin(first) == _is_latin(second)
        for first in names
        for second in names
    )


def _is_latin(words: frozenset[str]) -> bool:
    return any(word.isascii() for word in words)


def _years_apart(people: Sequence[Person]) -> int:
    years = [person.born_about for person in people if person.born_about is not None]
    return max(years) - min(years) if years else 0


def _born_about(header: Dataset) -> int | None:
    age = re.fullmatch(r"(\d{3})Y", str(header.get("PatientAge", "") or "").strip())
    try:
        study = date.fromisoformat(str(header.get("StudyDate", "") or ""))
    except ValueError:
        return None
    return study.year - int(age[1]) if age else None
