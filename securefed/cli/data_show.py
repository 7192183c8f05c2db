"""`securefed data show`: pictures of patients, to look at before anybody trains on them."""

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from securefed.cli.data_output import (
    of_classes,
    of_example,
    private_folder,
    progress_bar,
    require_new_folder,
    shower,
)
from securefed.errors import DataError
from securefed.files import create_private
from securefed.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securefed.data.samples import ExampleKind, Patient

PAGE = "index.html"
_PATH = click.Path(path_type=Path)


@click.command(name="show")
@click.argument("manifest", type=_PATH)
@click.option("--out", required=True, type=_PATH, help="Folder to make; only you can read it.")
@click.option("--patient", "wanted", multiple=True, help="This patient; can be given again.")
@click.option("--most", default=40, show_default=True, help="Patients shown, spread over all.")
@click.option("--size", default=192, show_default=True, help="Edge of each picture, in pixels.")
@of_example
@of_classes
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def command(
    manifest: Path,
    out: Path,
    wanted: tuple[str, ...],
    most: int,
    size: int,
    example: "ExampleKind",
    classes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Draw a contact sheet of each patient: a PNG, and one page with all of them.

    Each sheet has slices of every modality, and of each pair an overlay and a checkerboard, in
    which a registration that failed shows. Nothing is sent anywhere. Remove the folder when you
    have looked.

    \b
    securefed data show mine/manifest.csv --out look
    securefed data show mine/manifest.csv --out look --patient 7f3a... --size 320
    """
    from securefed.data.contact_sheet import contact_sheet
    from securefed.data.load import inspect_manifest
    from securefed.reporting.contact_page import Shown, contact_page

    if most < 1:
        raise DataError(f"--most {most}: at least one patient is shown", hint="leave it out for 40")
    require_new_folder(out)
    shown = []
    with progress_bar(quiet=as_json) as bar:
        loaded = inspect_manifest(
            manifest, size, progress=shower(bar, "rows"), example=example, classes=classes
        )
        chosen = _chosen(loaded.patients, wanted, most)
        with private_folder(out):
            for number, patient in enumerate(chosen, start=1):
                bar.reach(number / len(chosen), f"patient {number}/{len(chosen)}")
                picture = f"{number:04}.png"
                drawn = BytesIO()
                contact_sheet(patient).save(drawn, format="PNG")
                create_private(out / picture, drawn.getvalue())
                shown.append(
                    Shown(
                        patient=patient.patient_id,
                        site=patient.site,
                        label=classes[patient.label] if classes else patient.label,
                        picture=picture,
                        slices=patient.slices,
                        acquired={name: int(there.sum()) for name, _, there in patient},
                    )
                )
            name = manifest.resolve().name
            page = contact_page(name, shown, len(loaded.patients), loaded.unregistered, out)
            create_private(out / PAGE, page.encode())
    if as_json:
        facts = {"page": str(out / PAGE), "patients": [msgspec.to_builtins(each) for each in shown]}
        click.echo(json.dumps(facts))
        return
    if loaded.problems:
        click.echo(f"{counted(len(loaded.problems), 'problem')}: securefed data check {manifest}")
    click.echo(f"{len(shown)} of {counted(len(loaded.patients), 'patient')}: {out / PAGE}")


def _chosen(
    patients: "Sequence[Patient]", wanted: "Sequence[str]", most: int
) -> "Sequence[Patient]":
    """Those that were asked for, or `most`, evenly spread over the manifest."""
    if not patients:
        raise DataError(
            "there is no usable patient to show", hint="securefed data check says what is wrong"
        )
    by_id = {patient.patient_id: patient for patient in patients}
    unknown = [each for each in wanted if each not in by_id]
    if unknown:
        raise DataError(
            f"--patient {unknown[0][:100]}: there is no usable patient of that id",
            hint="ids are those of the manifest's column patient_id",
        )
    if wanted:
        return [by_id[each] for each in dict.fromkeys(wanted)]
    count = min(len(patients), most)
    return [patients[place * len(patients) // count] for place in range(count)]
