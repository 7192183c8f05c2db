"""What an image is for is told from ImageType, its maker's words, and parts of complex numbers."""

import pytest
from pydicom.dataset import Dataset

from securefed.data.dicom.anatomy import is_elsewhere, part_of
from securefed.data.dicom.contrast import has_contrast, kernel_of, weighting_of
from securefed.data.dicom.roles import ANATOMY, PERHAPS_LOCALISER, role_of


def header(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (
            "AAHead_Scout_64ch-head-coil|localizer|3PlaneLoc SSFSE|3-pl. T2* FGRE|Survey_SHC|"
            "BrainSurvey|Topogram 0.6|Scanogram|Surview|Lokalizer|\u00dcbersicht|rep\u00e9rage|"
            "Localizador|Plan Scan|Tri-Plane|3 Plane Loc",
            "localiser",
        ),
        ("ASSET calibration|SENSE RefScan|gre_field_mapping|B0 map|Shim|QA phantom", "calibration"),
        ("Premonitoring|SmartPrep Series|Test Bolus|CARE Bolus", "bolus monitoring"),
        ("T1_SUB|Subtraction|SUB_T1 post-pre", "subtraction"),
        ("mIP_Images(SW)|swi_MIP|VRT head", "projection"),
        ("ADC (10^-6 mm\u00b2/s)|eADC|ep2d_diff_FA|T1 MAP|rCBV|MTT", "map"),
        ("Pha_Images|SWI_Phase|phase contrast", "phase image"),
        ("Dose Report|Patient Protocol", "screen picture"),
        ("T1 MPRAGE stereotaxy, frame LOC|t2_haste_loc|PILOT", PERHAPS_LOCALISER),
        (
            "T1 AX POST|t1_mprage_sag_p2_iso|Ax FLAIR FS|HEAD 5.0 H31s|T2 TSE in phase|"
            "BRAIN W/O arterial phase|allocated T1|T1 FL2D FA 15",
            ANATOMY,
        ),
    ],
)
def test_a_series_name_tells_its_role(names: str, role: str) -> None:
    found = {name: role_of(header(SeriesDescription=name)) for name in names.split("|")}
    assert found == dict.fromkeys(names.split("|"), role)


@pytest.mark.parametrize(
    ("image_type", "role"),
    [
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], "localiser"),
        (["ORIGINAL", "PRIMARY", "P", "ND"], "phase image"),
        (["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"], "phase image"),
        (["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"], "real or imaginary part"),
        (["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], "map"),
        (["DERIVED", "SECONDARY", "SUBTRACTION"], "subtraction"),
        (["DERIVED", "SECONDARY", "MIP", "AXIAL"], "projection"),
        (["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "mosaic whose slices' places are not known"),
        (["DERIVED", "PRIMARY", "IODINE"], "map"),
        (["DERIVED", "PRIMARY", "M", "FAT"], "fat image"),
        (["DERIVED", "PRIMARY", "OP", "OP", "DERIVED"], "opposed phase"),
        (["DERIVED", "PRIMARY", "M", "WATER"], ANATOMY),
        (["DERIVED", "PRIMARY", "M", "IN_PHASE"], ANATOMY),
        (["ORIGINAL", "PRIMARY", "M", "ND"], ANATOMY),
        (["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"], ANATOMY),
        (["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"], ANATOMY),
        (["ORIGINAL", "PRIMARY", "T1", "NONE"], ANATOMY),
        (None, ANATOMY),
    ],
)
def test_an_image_type_tells_its_role(image_type: list[str] | None, role: str) -> None:
    assert role_of(header(ImageType=image_type)) == role


def test_parts_of_complex_numbers_and_mosaics_show_without_an_image_type() -> None:
    assert role_of(header(ComplexImageComponent="PHASE")) == "phase image"
    assert role_of(header(ComplexImageComponent="MAGNITUDE")) == ANATOMY
    ge = header()
    ge.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", 3)
    assert role_of(ge) == "real or imaginary part"
    siemens = header()
    siemens.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 36)
    assert role_of(siemens) == "mosaic whose slices' places are not known"


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"BodyPartExamined": "BRAIN"}, "head"),
        ({"BodyPartExamined": "KNEE"}, "knee"),
        ({"StudyDescription": "MR KNEE LEFT"}, "knee"),
        ({"SeriesDescription": "Sch\u00e4del nativ", "BodyPartExamined": "CHEST"}, "head"),
        ({"SeriesDescription": "C-SPINE SAG", "BodyPartExamined": "HEAD"}, "spine"),
        ({"BodyPartExamined": "LSPINE"}, "spine"),
        ({"StudyDescription": "MRT Wirbels\u00e4ule"}, "spine"),
        ({"StudyDescription": "IRM genou"}, "knee"),
        ({"StudyDescription": "CT HEAD AND NECK"}, "head"),
        ({"SeriesDescription": "ORBIT T1"}, "a part of the head"),
        (
            {"BodyPartExamined": "HEAD", "StudyDescription": "MR KNEE"},
            "its series and its study disagree",
        ),
        ({"SeriesDescription": "T1 AX"}, ""),
    ],
)
def test_words_tell_the_part_of_the_body(values: dict[str, str], part: str) -> None:
    assert part_of(header(**values)) == part
    assert is_elsewhere(part) == (part in ("knee", "spine"))


@pytest.mark.parametrize(
    ("kernels", "sharpness"),
    [
        ("H60s|Hr69h|U70u|BONE|BONEPLUS|EDGE|FC30|FC81|YC|D|H_SHARP_C|LUNG", "sharp kernel"),
        ("H31s|Hc40f|J40s|STANDARD|SOFT|DETAIL|FC21|FC26|UB|B|H_SOFT_B", "soft kernel"),
        ("K1|XYZ", ""),
    ],
)
def test_a_kernel_is_sharp_or_soft_whoever_made_it(kernels: str, sharpness: str) -> None:
    found = {name: kernel_of(header(ConvolutionKernel=name)) for name in kernels.split("|")}
    assert found == dict.fromkeys(kernels.split("|"), sharpness)
    assert kernel_of(header(ConvolutionKernel=["Hr60f", "3"])) == "sharp kernel"
    assert kernel_of(header(SeriesDescription="Knochen 1mm")) == "sharp kernel"


@pytest.mark.parametrize(
    ("names", "weighting"),
    [
        ("T1 AX|t1_mprage_sag|BRAVO|3D TFE", "T1"),
        ("T2 FLAIR|ax_flair_fs|t2_tirm_dark-fluid", "FLAIR"),
        ("Ax T1 FLAIR", "T1"),
        ("T2 TSE|t2_blade", "T2"),
        ("T2*|T2_star|Ax T2* GRE", "T2*"),
        ("DWI b1000|eDWI|ep2d_diff_3scan_trace", "diffusion"),
        ("SWI|SWAN", "susceptibility"),
        ("TOF 3D|MRA circle", "angiography"),
        ("ep2d_bold_rest", "functional"),
        ("perf DSC|asl_3d", "perfusion"),
        ("series 4", ""),
    ],
)
def test_names_tell_the_weighting(names: str, weighting: str) -> None:
    found = {name: weighting_of(header(SeriesDescription=name), "MR") for name in names.split("|")}
    assert found == dict.fromkeys(names.split("|"), weighting)


@pytest.mark.parametrize(
    ("echo", "repetition", "inversion", "weighting"),
    [
        (10, 500, None, "T1"),
        (3, 2300, 900, "T1"),
        (100, 4000, None, "T2"),
        (120, 9000, 2500, "FLAIR"),
        (15, 3000, None, "PD"),
        (50, 1000, None, ""),
    ],
)
def test_times_tell_the_weighting_where_no_name_does(
    echo: float, repetition: float, inversion: float | None, weighting: str
) -> None:
    times = {"EchoTime": echo, "RepetitionTime": repetition, "InversionTime": inversion}
    assert weighting_of(header(**times), "MR") == weighting


@pytest.mark.parametrize(
    ("name", "agent", "given"),
    [
        ("T1 AX POST", "", True),
        ("T1 +GD", "", True),
        ("t1 km", "", True),
        ("T1 AX", "GADOVIST", True),
        ("T1 AX", "NONE", False),
        ("T1 AX PRE", "GADOVIST", False),
        ("HEAD W/O contrast", "", False),
        ("non-contrast head", "", False),
        ("C SPINE", "", False),
        ("BEYIN KONTRASTSIZ", "", False),
        ("Kopf kontrastlos", "", False),
    ],
)
def test_contrast_medium_is_seen_in_the_name_or_the_agent(
    name: str, agent: str, given: bool
) -> None:
    assert has_contrast(header(SeriesDescription=name, ContrastBolusAgent=agent)) == given
