"""Whose a NIfTI file is and what it shows, by its name: the format itself does not say.

`ct/NAME.nii.gz` and `NAME/ct.nii.gz` are the CT of patient NAME, and so are `NAME/NAME_ct.nii.gz`
and `NAME_ct.nii.gz`; folders between are a session. Of BIDS (bids.neuroimaging.io) the suffix is
the modality, `ce-` tells T1 with contrast medium, `sub-NAME` with its `sub-` is the patient and
`ses-` the session.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from securefed.data import modalities

LAYOUTS = (
    "ct/NAME.nii.gz and mri/NAME.nii.gz, NAME/ct.nii.gz and NAME/mri.nii.gz, or BIDS"
    " (other modalities likewise, see --modalities)"
)
DERIVATIVES = "derivatives"  # of BIDS: copies that a program has worked on
_SUFFIXES = (".nii.gz", ".nii")
# What else files are called by: BIDS, and the BraTS challenges.
_ALSO = {
    "t1w": "t1",
    "t1n": "t1",
    "t1ce": "t1c",
    "t1gd": "t1c",
    "t2w": "t2",
    "t2f": "flair",
    "pdw": "pd",
}
_WITH_AGENT = re.compile(r"(?:^|_)ce-(?!none)[a-z0-9]+_", re.IGNORECASE)
_LAST_WORD = re.compile(r"(.+)[_.-]([A-Za-z0-9]+)")


@dataclass(frozen=True)
class FileName:
    """What a file is called.

    Attributes:
        patient: "" where the name says none.
        modality: "" where the name says none.
    """

    patient: str
    modality: str
    session: str = ""


def stem_of(path: Path) -> str:
    """A file's name without .nii or .nii.gz, "" if it has neither."""
    return next((path.name[: -len(s)] for s in _SUFFIXES if path.name.lower().endswith(s)), "")


def name_of(path: Path, asked: Collection[str]) -> FileName:
    """Patient, modality and session by a path relative to the tree.

    Args:
        asked: modalities that are imported, which may have names that nobody else knows.
    """
    *folders, _ = path.parts
    stem = stem_of(path)
    if not stem:
        return FileName("", "")
    if len(folders) == 1 and (by_folder := _modality(folders[0], asked)):
        return FileName(stem, by_folder)
    words = _LAST_WORD.fullmatch(stem)
    before, modality = "", _modality(stem, asked)
    if not modality and words is not None:
        before, modality = words[1], _modality(words[2], asked)
    if modality == "t1" and _WITH_AGENT.search(stem):
        modality = "t1c"
    parts = [*folders, *stem.split("_")]
    subject = next((part for part in parts if part.startswith("sub-")), "")
    patient = subject or (folders[0] if folders else before)
    session = next((part for part in parts if part.startswith("ses-")), "")
    return FileName(patient, modality, session or ("" if subject else "/".join(folders[1:])))


def _modality(text: str, asked: Collection[str]) -> str:
    name = text.lower()
    name = _ALSO.get(name, modalities.ALSO.get(name, name))
    return name if name in modalities.KINDS or name in asked else ""
