"""Phantom patients as files: what `securefed data phantom` writes.

manifest.csv is what a hospital would have; truth.csv is what only a generator knows (kind, slice
evidence, centres), and training must not read it.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from securefed.data.export import DatasetWriter, new_dataset
from securefed.data.phantom import PhantomPatient, PhantomSpec, SiteProfile, generate
from securefed.errors import ConfigurationError

TRUTH_COLUMNS = (
    "patient_id",
    "site",
    "kind",
    "slice",
    "ct_evidence",
    "mri_evidence",
    "tumour",
    "ct_row",
    "ct_column",
    "mri_row",
    "mri_column",
)


def write_phantoms(
    out: Path,
    spec: PhantomSpec,
    hospitals: int,
    patients: int,
    seed: int,
    *,
    force: bool = False,
    step: Callable[[int], object] = lambda count: None,
) -> int:
    """Write `patients` for each hospital and give the number of slices; see export for `force`.

    phantom.csv records the settings that make the same data set again.

    Raises:
        ConfigurationError: fewer than one hospital or patient, or `out` is taken.
    """
    for name, value in (("hospitals", hospitals), ("patients", patients)):
        if value < 1:
            raise ConfigurationError(f"{name} must be at least 1, got {value}", hint="4 is usual")
    truth: list[dict[str, object]] = []
    with new_dataset(out, force=force) as writer:
        writer.simulation = "phantom"
        for index in range(hospitals):
            site = SiteProfile.draw(spec, index, seed)
            for number in range(patients):
                (made,) = generate(spec, site, 1, seed, first=number)
                _write(writer, made)
                truth += _truth(made)
                step(1)
        writer.write_table("truth.csv", TRUTH_COLUMNS, truth)
        settings = asdict(spec) | {"seed": seed, "hospitals": hospitals, "patients": patients}
        rows = [{"setting": name, "value": value} for name, value in settings.items()]
        writer.write_table("phantom.csv", ("setting", "value"), rows)
    return writer.slices


def _write(writer: DatasetWriter, made: PhantomPatient) -> None:
    person = made.patient
    slices = [
        {name: images[k] for name, images, present in person if present[k]}
        for k in range(person.slices)
    ]
    writer.add(person.patient_id, person.label, person.site, slices)


def _truth(made: PhantomPatient) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for k in range(made.patient.slices):
        row: dict[str, object] = {
            "patient_id": made.patient.patient_id,
            "site": made.patient.site,
            "kind": made.kind,
            "slice": k,
            "ct_evidence": int(made.ct_evidence[k]),
            "mri_evidence": int(made.mri_evidence[k]),
            "tumour": int(made.tumour[k]),
        }
        for modality, centre in (("ct", made.ct_centre), ("mri", made.mri_centre)):
            if centre is not None and row[f"{modality}_evidence"]:
                row |= {f"{modality}_row": centre[1], f"{modality}_column": centre[2]}
        rows.append(row)
    return rows
