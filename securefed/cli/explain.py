"""`securefed explain`: why a released model says what it says of one patient."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securefed.cli.asked_model import PATH, of_patients
from securefed.cli.data_output import private_folder, require_new_folder
from securefed.files import create_private
from securefed.record.explanation import Drawn, ExplanationFile, Place
from securefed.wording import listed

if TYPE_CHECKING:
    from securefed.data.samples import Patient
    from securefed.model.place_grid import PlaceGrid
    from securefed.prediction.explanation import Explanation
    from securefed.prediction.model import ReleasedModel

PAGE = "index.html"
_FROM_ONE = click.IntRange(min=1)


@click.command()
@of_patients
@click.option("--patient", "patient_id", required=True, help="Whose answer is explained.")
@click.option("--out", required=True, type=PATH, help="Folder to make; only you can read it.")
@click.option("--example", help="Which of the patient's, as predict names it.")
@click.option(
    "--place",
    nargs=2,
    type=_FROM_ONE,
    metavar="ROW COLUMN",
    help="Whose attention is shown, from 1.  [default: that which adds most]",
)
@click.option(
    "--slice", "slice_number", type=_FROM_ONE, help="In which slice, from 1.  [default: likewise]"
)
@click.option("--json", "as_json", is_flag=True, help="Print explanation.json instead of text.")
def command(
    model: Path,
    patients: Path,
    personal: Path | None,
    patient_id: str,
    out: Path,
    example: str | None,
    place: tuple[int, int] | None,
    slice_number: int | None,
    as_json: bool,
) -> None:
    """Show which places of a patient's scans make a model's answer, and where they looked.

    MODEL and PATIENTS are those of `securefed predict`. In --out are a page (index.html) with
    pictures of every modality, of what each place adds to the logit, and of where one place looked
    in the other modalities; and the same in explanation.json. Nothing is sent anywhere. Remove the
    folder when you have looked.

    \b
    securefed explain runs/mine mine/manifest.csv --patient 7f3a --out look
    securefed explain runs/mine mine/manifest.csv --patient 7f3a --out other --place 3 5 --slice 9
    """
    from securefed.data.folders import read as read_manifest
    from securefed.model.place_grid import place_grid
    from securefed.prediction.explanation import explain
    from securefed.prediction.explanation_pictures import place_picture, slices_picture
    from securefed.prediction.model import load_model
    from securefed.prediction.patients import one_patient
    from securefed.reporting.explanation_page import explanation_page

    require_new_folder(out)
    opened = load_model(model, personal)
    manifest = read_manifest(patients, opened.modalities, labelled=False, example=opened.example)
    patient = one_patient(manifest, patient_id, opened.image_size, patients.resolve().name)
    shown = explain(
        opened,
        patient,
        example,
        at=(place[0] - 1, place[1] - 1) if place else None,
        in_slice=slice_number - 1 if slice_number else None,
    )
    grid = place_grid(opened.network)
    about = _about(opened, patient, shown, grid)
    with private_folder(out):
        for picture, draw in zip(about.pictures, (slices_picture, place_picture), strict=True):
            create_private(out / picture.file, draw(shown, grid))
        create_private(out / ExplanationFile.NAME, about.encode())
        create_private(out / PAGE, explanation_page(about, out).encode())
    if as_json:
        click.echo(about.encode().decode(), nl=False)
        return
    if about.cautions:
        click.echo(f"NOT FOR USE ON PATIENTS: {listed(about.cautions)}")
    at = about.place
    click.echo(
        f"{patient_id}: probability {about.probability:.3f}; attention is of row {at.row}, "
        f"column {at.column} in slice {at.slice}: {out / PAGE}"
    )


def _about(
    model: "ReleasedModel", patient: "Patient", shown: "Explanation", grid: "PlaceGrid"
) -> ExplanationFile:
    numbers = [int(number) + 1 for number in shown.numbers]
    place = Place(numbers[shown.place.slice], shown.place.row + 1, shown.place.column + 1)
    where = f"row {place.row}, column {place.column} of slice {place.slice}"
    contexts = [name.upper() for name in shown.attention]
    looked = (
        f"where it looked in {listed(contexts)}" if contexts else "no context, as there is none"
    )
    return ExplanationFile(
        model=model.digest,
        cautions=model.cautions,
        patient=patient.patient_id,
        example=shown.example,
        site=patient.site,
        modalities=shown.modalities,
        missing=tuple(name for name in shown.modalities if not shown.present_of(name).any()),
        logit=shown.logit,
        probability=1 / (1 + math.exp(-shown.logit)),
        slices=tuple(numbers),
        image_size=model.image_size,
        first_centre=grid.first,
        centre_step=grid.step,
        contributions=shown.contributions.tolist(),
        place=place,
        attention={name: each.tolist() for name, each in shown.attention.items()},
        pictures=(
            Drawn(
                "slices.png",
                "Every slice",
                "Columns are slices, rows modalities (black: not acquired) and what each place "
                f"adds. The slice in the yellow frame is number {place.slice}.",
            ),
            Drawn(
                "place.png",
                "One place",
                f"The ring is {where}: what its slice adds, and {looked}.",
            ),
        ),
    )
