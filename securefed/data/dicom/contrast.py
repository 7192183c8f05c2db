"""What makes one head series differ from another: MR weighting, CT kernel, contrast medium.

From names first, since technologists choose by them, then from the acquisition. Kernels: a number
of two digits grows with sharpness at Siemens; GE, Philips and Canon have names of their own.
Weighting by times: the usual ranges at 1.5 and 3 T.
"""

import re

from pydicom.dataset import Dataset

from securefed.data.dicom.words import any_of, plain_words, values_of, words_of

SHARP, SOFT, NO_KERNEL = "sharp kernel", "soft kernel", ""
UNKNOWN = ""
ANGIOGRAPHY, DYNAMIC = "angiography", "series in time"
UNCORRECTED = "not corrected for attenuation"

_MR_NAMES = (
    ("diffusion", r"e?dwi\w*|\w*diff\w*|dti\w*|trace\w*|tracew|hardi|dki|b ?(500|800|1000|2000)"),
    ("perfusion", r"perf\w*|dsc|dce|p?asl|pcasl|pwi|dynamic"),
    (ANGIOGRAPHY, r"\w*tof\w*|mra|cemra|mrv|\w*angio\w*|pc ?3d|venogra\w*"),
    ("functional", r"f?mri? ?rest\w*|bold\w*|fmri\w*|rest ?state|task\w*|ep2d ?bold\w*"),
    ("susceptibility", r"swi\w*|swan|susc\w*|venobold|mag ?images|qsm"),
    ("spectroscopy", r"mrs|svs|csi|press"),
    # Before FLAIR, as there is T1 FLAIR.
    ("T1", r"\w*t1\w*|\w*mp2?rage\w*|bravo|\w*spgr\w*|mdeft|\w*tfe|vibe\w*|tfl\w*|lava|ir ?prep"),
    ("FLAIR", r"\w*flair\w*|dark ?fluid|tirm ?dark\w*|da ?fl"),
    ("T2*", r"\w*t2\*|t2 ?star\w*|\w*t2 ?ffe|t2s|hemo\w*|t2w? ?gre|gre ?t2"),
    ("T2", r"\w*t2\w*|ciss|fiesta\w*|drive|haste\w*|trufi\w*|ssfse\w*|stir"),
    ("PD", r"\w*pd\w*|proton ?dens\w*"),
    ("T2", r"tse|blade|propeller"),  # as T2 is taken mostly, and PD too
)
_CT_NAMES = (
    ("perfusion", r"perf\w*|ctp|dynamic|4d"),
    (ANGIOGRAPHY, r"\w*angio\w*|cta|cow|arter\w*|venogra\w*|ctv|carot\w*"),
    ("virtual", r"vnc|virtual\w*|mono\w*|\d+ ?kev|dual ?energy|iodine"),
)
_EMISSION_NAMES = ((UNCORRECTED, r"nac|(no|non|without|wo) ?ac|uncorr\w*|un ?attenuat\w*"),)
_NAMED = {
    modality: [(name, any_of(words)) for name, words in names]
    for modality, names in (
        *(("MR", _MR_NAMES), ("CT", _CT_NAMES)),
        *(("PT", _EMISSION_NAMES), ("NM", _EMISSION_NAMES)),
    )
}
_AGENT_WORD = re.compile(
    r"post\w*|\+(c|gd|km)|(c|gd|km)\+|\w+\+(c|gd|km)|gd|gad\w*|ce|km|mdc|contrast\w*|kontrast\w*"
    r"|enhanced|inj\w*"
)
_PLAIN_WORD = re.compile(
    r"pre|plain|nativ\w*|nc|ncct|non\w*|un\w*|no|wo|without|sans|ohne|senza|sin|blanco"
    r"|kontrast(siz|los|fr)\w*"
)
_NO_AGENT = {"", "NO", "NONE", "N", "FALSE", "0", "NULL"}
_SOFT_NAMES = ("A", "B", "C", "UA", "UB", "UC", "SA", "SB", "DETAIL", "HEAD")
_SHARP_NAMES = (
    "D",
    "E",
    "L",
    "YC",
    "YD",
    "YE",
    "ULTRA",
    "CHST",
    "BONEPLUS",
    "BONE+",
    "EAR",
    "HIGH",
)
_SHARP_WORDS = re.compile(
    r"\b(bones?|bony|os|osseous|knochen|hueso\w*|osso|lung|sharp|edge|hrct)\b"
)
_SOFT_WORDS = re.compile(
    r"\b(soft\w*|smooth|brain\w*|hirn|weich\w*|parench\w*|standard|stnd|std|molle|mou)\b"
)
_SHARP_FROM = 50  # the first two digits of a Siemens kernel
_CANON_SHARP = range(30, 60)  # FC30 to FC59 bone and lung; FC80 and above too


def kernel_of(header: Dataset) -> str:
    """SHARP, SOFT or NO_KERNEL (not known), from ConvolutionKernel or the series' name."""
    kinds = [_kernel(kernel) for kernel in values_of(header, "ConvolutionKernel")]
    kinds.append(_kernel_words(words_of(header, "SeriesDescription")))
    return next(filter(None, kinds), NO_KERNEL)


def weighting_of(header: Dataset, modality: str) -> str:
    """MR weighting or the kind of a CT, PET or SPECT; "" if it is not known, or a plain one."""
    for keyword in ("SeriesDescription", "ProtocolName"):
        if name := named_weighting(words_of(header, keyword), modality):
            return name
    if modality == "PT" and "ATTN" not in (values_of(header, "CorrectedImage") or ("ATTN",)):
        return UNCORRECTED
    return _by_times(header) if modality == "MR" else UNKNOWN


def named_weighting(words: str, modality: str = "MR") -> str:
    """The same by plain words alone."""
    found = (name for name, pattern in _NAMED[modality] if pattern.search(words))
    return next(found, UNKNOWN)


def has_contrast(header: Dataset) -> bool:
    """Whether contrast medium was given, by its name or the series' name."""
    named = named_contrast(words_of(header, "SeriesDescription"))
    agent = str(header.get("ContrastBolusAgent", "") or "").strip().upper()
    return (agent not in _NO_AGENT) if named is None else named


def named_contrast(words: str) -> bool | None:
    """Whether plain words say that contrast medium was given, or not; None if neither."""
    each = words.split()
    if any(_PLAIN_WORD.fullmatch(word) for word in each):
        return False
    return True if any(_AGENT_WORD.fullmatch(word) for word in each) else None


def _kernel(kernel: str) -> str:
    canon = re.fullmatch(r"FC(\d{2})", kernel)
    if canon:
        number = int(canon[1])
        return SHARP if number in _CANON_SHARP or number >= 80 else SOFT
    siemens = re.fullmatch(r"[A-Z][A-Z]?(\d{2})[A-Z]?(\W.*)?", kernel)
    if siemens:
        return SHARP if int(siemens[1]) >= _SHARP_FROM else SOFT
    if kernel in _SHARP_NAMES:
        return SHARP
    return SOFT if kernel in _SOFT_NAMES else _kernel_words(plain_words(kernel))


def _kernel_words(words: str) -> str:
    if _SHARP_WORDS.search(words):
        return SHARP
    return SOFT if _SOFT_WORDS.search(words) else NO_KERNEL


def _by_times(header: Dataset) -> str:
    echo, repetition, inversion = (
        _number(header, keyword) for keyword in ("EchoTime", "RepetitionTime", "InversionTime")
    )
    if echo is None or repetition is None:
        return UNKNOWN
    if inversion is not None and inversion > 1500 and echo > 60:
        return "FLAIR"
    if echo < 30 and (repetition < 1200 or (inversion is not None and 300 < inversion < 1500)):
        return "T1"
    if echo > 60 and repetition > 1500:
        return "T2"
    return "PD" if echo < 40 and repetition > 1500 else UNKNOWN


def _number(header: Dataset, keyword: str) -> float | None:
    try:
        return float(header[keyword].value)
    except (KeyError, TypeError, ValueError):
        return None
