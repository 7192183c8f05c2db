"""What an image is for, from ImageType and its maker's words: anatomy, or something else.

Only anatomy can become a patient's CT or MRI. What is left out for its role is listed by name,
because words can be wrong. Strong words (scout, survey, topogram) leave a series out; the word
"loc" also stands in names of real series, so it only makes one the last choice. ImageType: PS3.3,
C.7.6.1.1.2, C.8.2.1.1.1 and C.8.13.3.1.1; the rest is from conformance statements and the field.
"""

from pydicom.dataset import Dataset

from securefed.data.dicom.mosaics import tiles_of
from securefed.data.dicom.words import any_of, private_value, values_of, words_of

ANATOMY = "anatomy"
PERHAPS_LOCALISER = "perhaps a localiser"
LOCALISER = "localiser"
MOSAIC = "mosaic whose slices' places are not known"

# Role -> values of ImageType beyond the second.
_TYPES = {
    LOCALISER: ("LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"),
    MOSAIC: ("MOSAIC",),
    "projection": (
        *("PROJECTION IMAGE", "PROJECTION", "MIP", "MINIP", "MNIP", "MIN_IP", "MAX_IP", "MAXIMUM"),
        *("MINIMUM", "VOLUME_RENDERING", "VRT", "SSD", "VOLREND", "RENDERED"),
    ),
    "phase image": (
        *("P", "PHASE", "PHASE MAP", "PHASE_MAP", "P_FFE", "P_SE", "P_IR", "PCA", "VELOCITY"),
        *("VELOCITY MAP", "VELOCITY_MAP", "PHASE CONTRAST"),
    ),
    "real or imaginary part": (
        *("R", "I", "REAL", "IMAGINARY", "R_FFE", "I_FFE", "R_SE", "I_SE", "R_IR", "I_IR"),
    ),
    "fat image": ("FAT", "F", "FAT_ONLY"),  # of Dixon's method, beside water and both in phase
    "opposed phase": ("OPP_PHASE", "OPPOSED_PHASE", "OUT_PHASE", "OUT_OF_PHASE", "OP"),
    "subtraction": ("SUBTRACTION", "SUB", "SUBTRACT", "SUBTRACTED"),
    "map": (
        *("ADC", "ADC MAP", "ADC_MAP", "ADC_UNSPECIFIED", "EADC", "E_ADC", "EXP", "EXPONENTIAL"),
        *("FA", "RA", "TENSOR", "DIFFUSION_ANISO", "FRACTIONAL ANISOTROPY", "TTP", "CBF", "CBV"),
        *("MTT", "TMAX", "RCBF", "RCBV", "RELCBF", "RELCBV", "RELCCBV", "RELMTT", "PBP", "KTRANS"),
        *("T1 MAP", "T2 MAP", "T1_MAP", "T2_MAP", "T2STAR MAP", "T2_STAR MAP", "R2 MAP", "R2_MAP"),
        *("R2STAR", "B0 MAP", "B0_MAP", "B1 MAP", "FIELD_MAP", "FIELD MAP", "STDDEV", "STD_DEV"),
        *("STD_DEVIATION", "T_TEST", "ZSCORE", "Z_SCORE", "IODINE", "IODINE_MAP", "Z_EFF", "EDW"),
        *("EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "MATERIAL_FRACTION", "MAT_FRACTIONAL"),
        *("MAT_SPECIFIC", "METABOLITE_MAPS", "FAT FRACTION", "FAT_FRACTION", "PERMEABILITY"),
    ),
    "screen picture": (
        *("SCREEN SAVE", "SCREENSAVE", "DOSE_INFO", "REPORT", "CSA REPORT", "CAPTURE"),
    ),
}
# Role -> what the series' name says, as plain words.
_NAMES = {
    LOCALISER: (
        r"\w*scout\w*|scano\w*|surview\w*|\w*survey|topo|topogram\w*|locali[sz]\w*|lokali\w*"
        r"|plan ?scan|locator|reperage|ue?bersicht\w*|centratura"
        r"|(3|three|tri) ?(pl|plan[aeo]?[rs]?s?)( ?loc)?"
    ),
    "calibration": (
        r"calib\w*|(asset ?)?cal|sense ?ref|ref ?scan|coil ?(survey|sens\w*)|pre ?scan|shim\w*"
        r"|(b0|b1|field) ?map\w*|phantom|qa"
    ),
    "bolus monitoring": (
        r"(pre)?monitoring|bolus ?track\w*|test ?bolus|smart ?prep|sure ?start|care ?bolus"
        r"|timing ?bolus"
    ),
    "subtraction": r"subs?|subtr\w*",
    "projection": r"\w*mips?|vrt|volume ?rendering|ssd",
    "map": (
        r"[ed]?adc\w*|apparent diff\w*|r?cb[fv]|rel ?cb[fv]|mtt|ttp|tmax|ktrans|iodine|colfa"
        r"|(dti|diff\w*|tensor) (\w+ )*fa|(fa|t1|t2|t2s|r2s?|colou?r) ?map\w*"
    ),
    "phase image": (
        r"pha|phase ?(map|image)s?|(swi\w*|swan|gre|flow|filt?) (\w+ )*phase|phase ?contrast"
    ),
    "screen picture": r"dose ?(report|info)|patient ?protocol|screen ?(save|shot)s?",
}
_NAMED = {role: any_of(words) for role, words in _NAMES.items()}
_WEAK_LOCALISER = any_of(r"loc|pilot|smart ?brain|auto ?align")
_PARTS = {
    "PHASE": "phase image",
    "REAL": "real or imaginary part",
    "IMAGINARY": "real or imaginary part",
}
_GE_PARTS = {1: "PHASE", 2: "REAL", 3: "IMAGINARY"}


def role_of(header: Dataset) -> str:
    """ANATOMY, PERHAPS_LOCALISER, or what else an image is for."""
    types = values_of(header, "ImageType")[2:]
    for role, values in _TYPES.items():
        if not set(values).isdisjoint(types):
            return role
    if tiles_of(header) > 1:
        return MOSAIC
    part = str(header.get("ComplexImageComponent", "") or "").upper() or _ge_part(header)
    if part in _PARTS:
        return _PARTS[part]
    name, protocol = words_of(header, "SeriesDescription"), words_of(header, "ProtocolName")
    for role, pattern in _NAMED.items():
        if pattern.search(name) or (not name and pattern.search(protocol)):
            return role
    return PERHAPS_LOCALISER if _WEAK_LOCALISER.search(name or protocol) else ANATOMY


def _ge_part(header: Dataset) -> str:
    try:
        return _GE_PARTS.get(int(private_value(header, 0x0043, "GEMS_PARM_01", 0x2F)), "")
    except (TypeError, ValueError):
        return ""
