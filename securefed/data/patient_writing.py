"""From the CT and MRI of a patient as volumes to what is written, whatever they were read from."""

from dataclasses import replace

from securefed.data.dicom.report import ImportReport
from securefed.data.dicom.volume import Series, to_eight_bits
from securefed.data.export import DatasetWriter
from securefed.data.head_overlap import LEAST_OVERLAP, head_overlap
from securefed.data.import_rules import ImportRules
from securefed.data.pairing import pair
from securefed.data.table import Problem
from securefed.errors import DataError


def write_patient(
    name: str,
    label: int,
    ct: Series | None,
    mri: Series | None,
    writer: DatasetWriter,
    *,
    rules: ImportRules,
    report: ImportReport,
    person: str = "",
) -> None:
    """Pair the slices of a patient and write them; why not, and what is odd, goes to `report`.

    Args:
        name, person: pseudonyms, as in `DatasetWriter.add`.
    """
    if ct is not None and mri is not None:
        mri, doubt = _with_believed_frame(ct, mri)
        report.notes += [Problem(name, doubt)] if doubt else []
    try:
        pairing = pair(
            ct,
            mri,
            window=rules.window,
            size=rules.image_size,
            max_gap_days=rules.max_gap_days,
            allow_unregistered=rules.allow_unregistered,
        )
    except DataError as error:
        report.problems.append(Problem(name, str(error)))
        return
    report.notes += [Problem(name, note) for note in pairing.notes]
    writer.add(
        name,
        label,
        rules.site,
        pairing.slices,
        registration=pairing.status,
        error_mm=pairing.error_mm,
        person=person,
    )


def require_contrast(series: Series, window: str) -> None:
    """Refuse a volume that would be written in one grey.

    Raises:
        DataError: it shows nothing in this window.
    """
    pictures = to_eight_bits(series, series.values, window)
    if pictures.min() == pictures.max():
        raise DataError(f"shows one grey only ({pictures.max()} of 255)")


def _with_believed_frame(ct: Series, mri: Series) -> tuple[Series, str | None]:
    """The MRI, without a frame of reference that it shares with the CT and does not keep."""
    if not ct.frame or ct.frame != mri.frame or ct.positions is None or mri.positions is None:
        return mri, None
    overlap = head_overlap(ct, mri)
    if overlap is None or overlap >= LEAST_OVERLAP:
        return mri, None
    doubt = (
        f"CT and MRI share a frame of reference, but their heads overlap by {overlap:.0%}"
        " only; it is not believed"
    )
    return replace(mri, frame=""), doubt
