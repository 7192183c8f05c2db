"""Phantom patients as files: what `securefed data phantom` writes.

manifest.csv is what a hospital would have; truth.csv is what only a generator knows (kind, slice
evidence, centres), and training must not read it.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from securefed.data.export import DatasetWriter, new_dataset
from securefed.data.phantom import PhantomPatient, PhantomSpec, SiteProfile, generate
from securefed.data.samples import ExampleKind
from securefed.errors import ConfigurationError

STUDY = "visit-1"  # a phantom has one


def write_phantoms(
    out: Path,
    spec: PhantomSpec,
    hospitals: int,
    patients: int,
    seed: int,
    *,
    example: ExampleKind = "patient",
    classes: tuple[str, ...] = (),
    force: bool = False,
    step: Callable[[int], object] = lambda count: None,
) -> int:
    """Write `patients` for each hospital and give the number of slices; see export for `force`.

    phantom.csv records the settings that make the same data set again.

    Args:
        example: what each line's label is of; a slice has its patient's where it shows why, and
            a phantom has one study.
        classes: names of `spec.classes`, by which labels are written.

    Raises:
        ConfigurationError: fewer than one hospital or patient, or `out` is taken.
    """
    for name, value in (("hospitals", hospitals), ("patients", patients)):
        if value < 1:
            raise ConfigurationError(f"{name} must be at least 1, got {value}", hint="4 is usual")
    truth: list[dict[str, object]] = []
    with new_dataset(out, force=force) as writer:
        writer.simulation, writer.modalities = "phantom", spec.modalities
        writer.classes = classes
        for index in range(hospitals):
            site = SiteProfile.draw(spec, index, seed)
            for number in range(patients):
                (made,) = generate(spec, site, 1, seed, first=number)
                _write(writer, made, example)
                truth += _truth(made)
                step(1)
        writer.write_table("truth.csv", list(truth[0]), truth)
        settings = asdict(spec) | {"seed": seed, "hospitals": hospitals, "patients": patients}
        settings |= {"example": example, "names": " ".join(classes)}
        rows = [{"setting": name, "value": value} for name, value in settings.items()]
        writer.write_table("phantom.csv", ("setting", "value"), rows)
    return writer.slices


def _write(writer: DatasetWriter, made: PhantomPatient, example: ExampleKind) -> None:
    person = made.patient
    slices = [
        {name: images[k] for name, images, present in person if present[k]}
        for k in range(person.slices)
    ]
    study = STUDY if example == "study" else ""
    of_slices = example == "slice"
    examples = [(study, label if of_slices else person.label) for label in made.labels]
    writer.add(person.patient_id, person.label, person.site, slices, examples=examples)


def _truth(made: PhantomPatient) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for k in range(made.patient.slices):
        row: dict[str, object] = {
            "patient_id": made.patient.patient_id,
            "site": made.patient.site,
            "kind": made.kind,
            "slice": k,
        }
        shown = dict(zip(made.patient.modalities, made.evidence[:, k].tolist(), strict=True))
        row |= {f"{modality}_evidence": int(there) for modality, there in shown.items()}
        row["tumour"] = int(made.tumour[k])
        for modality, there in shown.items():
            place = made.centres[modality][1:] if there else ("", "")
            row |= {f"{modality}_row": place[0], f"{modality}_column": place[1]}
        rows.append(row)
    return rows
