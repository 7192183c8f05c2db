"""From the scans of a patient as volumes to what is written, whatever they were read from."""

from collections.abc import Mapping

from securefed.data.dicom.report import ImportReport
from securefed.data.dicom.volume import Series, to_eight_bits
from securefed.data.export import DatasetWriter
from securefed.data.import_rules import ImportRules
from securefed.data.pairing import pair
from securefed.data.table import Problem
from securefed.errors import DataError


def write_patient(
    name: str,
    label: int,
    scans: Mapping[str, Series],
    writer: DatasetWriter,
    *,
    rules: ImportRules,
    report: ImportReport,
    person: str = "",
) -> None:
    """Pair the slices of a patient and write them; why not, and what is odd, goes to `report`.

    Args:
        scans: by modality, in the order of the modalities.
        name, person: pseudonyms, as in `DatasetWriter.add`.
    """
    try:
        pairing = pair(scans, rules.pairing)
    except DataError as error:
        report.problems.append(Problem(name, str(error)))
        return
    report.notes += [Problem(name, note) for note in pairing.notes]
    writer.add(
        name,
        label,
        rules.site,
        pairing.slices,
        registrations=pairing.registrations,
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
