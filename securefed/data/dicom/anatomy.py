"""Which part of the body a series shows, from the words of its header.

A knee may be nearer in time to a head CT than the head's own MRI. What the series says of itself
outweighs what its study says, and words of people outweigh BodyPartExamined, which scanners
fill in from a default. Words in English, German, French, Spanish and Italian; the list is open.
"""

import re

from pydicom.dataset import Dataset

from securefed.data.dicom.words import plain_words, words_of

HEAD, PART_OF_HEAD, UNKNOWN = "head", "a part of the head", ""
CONTRADICTED = "its series and its study disagree"

_HEAD = re.compile(
    r"\b(\w*head\w*|brain\w*|\w*crani\w*|crane|cerebr\w*|cervello|cerveau|encephal\w*|encefalo|neuro\w*"
    r"|\w*skull\w*|\w*kopf\w*|\w*sch(ae|a)del\w*|\w*hirn\w*|cabeza|testa|cct|ncct|hoofd|hersenen)\b"
)
_PART = re.compile(
    r"\b(orbit\w*|sella\w*|pituitary|hypophys\w*|iacs?|petrous|temporal|sinus\w*|facial|faces?|mandib\w*"
    r"|maxill\w*|tmj|ears?|mastoid\w*|felsenbein\w*|nnh|jaw|dental|circle of willis|carotids?)\b"
)
# Word -> the part as it is called in a message.
_OTHER = {
    r"\w*knees?|knie\w*|genou|rodilla|ginocchio": "knee",
    r"\w*spin[ae]l?s?|[clt] ?sp|[hbl]ws|lumbar|lumbal\w*|cervical|wirbel\w*|rachis|columna"
    r"|colonna|sacr\w*|coccyx|myelon": "spine",
    r"neck|hals|cou|cuello|collo|thyroid|larynx": "neck",
    r"chest|thora[xc]\w*|lungs?|lunge|rib|ribs|sternum|mediastinum|torace|poumon"
    r"|pulmon\w*": "chest",
    r"heart|cardiac|smart ?score|calcium|coronar\w*|herz|coeur": "heart",
    r"abdom\w*|abd|liver|leber|kidneys?|renal|pancreas|spleen|gallbladder|bowel|colon|adrenals?"
    r"|mrcp|oberbauch": "abdomen",
    r"pelvi\w*|becken|bassin|prostat\w*|uterus|bladder|rectum|ovar\w*|scrotum": "pelvis",
    r"breasts?|mamm[ao]\w*|sein": "breast",
    r"shoulders?|schulter|epaule|hombro|spalla|clavicle|scapula": "shoulder",
    r"hips?|huefte|hanche|cadera|femur|thigh|legs?|calf|tibia|extremity|lower ?ext\w*": "leg",
    r"ankles?|foot|feet|fuss|pied|pie|toes?|heel|calcaneus": "foot",
    r"hands?|wrists?|fingers?|thumb|elbows?|arms?|forearm|humerus|upper ?ext\w*|handgelenk": "arm",
    r"aorta|whole ?body|ganzk\w*|ct ?pet": "body",
}
_NAMED = {re.compile(rf"\b({words})\b"): name for words, name in _OTHER.items()}


def part_of(header: Dataset) -> str:
    """HEAD, PART_OF_HEAD, CONTRADICTED, UNKNOWN, or the name of another part of the body."""
    for keyword in ("SeriesDescription", "ProtocolName"):
        part = named_part(words_of(header, keyword).replace("head coil", ""))
        if part:
            return part
    examined = named_part(words_of(header, "BodyPartExamined")) or _region(header)
    study = named_part(words_of(header, "StudyDescription"))
    if examined and study and (examined == HEAD) != (study == HEAD):
        return CONTRADICTED
    return examined or study


def is_elsewhere(part: str) -> bool:
    """Whether it is known that a series does not show the head."""
    return part not in (HEAD, PART_OF_HEAD, CONTRADICTED, UNKNOWN)


def named_part(words: str) -> str:
    """The part of the body in plain words; a head with something else is a head."""
    if _HEAD.search(words):
        return HEAD
    if _PART.search(words):
        return PART_OF_HEAD
    return next((name for pattern, name in _NAMED.items() if pattern.search(words)), UNKNOWN)


def _region(header: Dataset) -> str:
    region = header.get("AnatomicRegionSequence", None)
    return named_part(plain_words(str(region[0].get("CodeMeaning", "")))) if region else UNKNOWN
