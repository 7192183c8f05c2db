"""What modalities are called: a name is a column of the manifest and a setting of the network.

A name is short, in small letters and digits: `ct`, `mri`, `pet`, `t1`. Any name will do, for any
kind of picture; those in NAMES are also known without a suffix, as columns and as folders.
"""

import re

NAMES = ("ct", "mri", "pet", "spect", "t1", "t2", "flair")
ALSO = {"mr": "mri"}  # how else one is written
DEFAULT = ("ct", "mri")
WINDOWED = "ct"  # has units, and so a window; all others are scaled by their own percentiles
# Name -> Modality (0008,0060) of the scans that are one, where imports need not be told.
KINDS = {
    "ct": "CT",
    "mri": "MR",
    "pet": "PT",
    "spect": "NM",
    **dict.fromkeys(("t1", "t1c", "t2", "flair", "pd", "dwi", "swi"), "MR"),
}
_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")
_COLUMN = re.compile(r"([a-z][a-z0-9]{0,15})_(?:path|image|file)")


def named(text: str) -> str | None:
    """The known modality that a column or a folder is called by alone; None if it is none."""
    name = ALSO.get(text, text)
    return name if name in NAMES else None


def is_name(text: str) -> bool:
    """Whether a modality can be called so."""
    return _NAME.fullmatch(text) is not None


def named_in(text: str) -> list[str]:
    """The names in a list with commas; blanks, and commas too many, are no part of any."""
    return [name for name in map(str.strip, text.split(",")) if name]


def of_column(text: str) -> str | None:
    """The modality whose images a column (small letters, underscores) names: NAME_path, NAME_image,
    NAME_file of any, or a known one alone."""
    match = _COLUMN.fullmatch(text)
    return ALSO.get(match[1], match[1]) if match else named(text)


def column(modality: str) -> str:
    """What a modality's column is called."""
    return f"{modality}_path"
