"""`securefed explain`: why a released model says what it says of one patient."""

from pathlib import Path

import click

from securefed.cli.asked_model import PATH, of_patients
from securefed.cli.data_output import private_folder, require_new_folder
from securefed.files import create_private
from securefed.record.explanation import ExplanationFile
from securefed.wording import listed

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
@click.option(
    "--class", "of_class", help="Of several: which is explained.  [default: the likeliest]"
)
@click.option("--fused", is_flag=True, help="Show both modalities in one picture, in two ways.")
@click.option("--check", is_flag=True, help="Compare with captum's attributions; takes a while.")
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
    of_class: str | None,
    fused: bool,
    check: bool,
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
    from securefed.prediction.explained import explained
    from securefed.prediction.explanation import explain
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
        of_class=of_class,
    )
    about, pictures = explained(opened, patient, shown, fused=fused, check=check)
    with private_folder(out):
        for name, content in pictures.items():
            create_private(out / name, content)
        create_private(out / ExplanationFile.NAME, about.encode())
        create_private(out / PAGE, explanation_page(about, out).encode())
    if as_json:
        click.echo(about.encode().decode(), nl=False)
        return
    if about.cautions:
        click.echo(f"NOT FOR USE ON PATIENTS: {listed(about.cautions)}")
    if about.unlike:
        click.echo(
            f"scans unlike those of the training ({about.unlike}): do not believe the answer"
        )
    for method, agreement in about.checks.items():
        told = "none to tell" if agreement is None else f"rank correlation {agreement:.2f}"
        click.echo(f"contributions and {method}, over the places of the slice: {told}")
    at = about.place
    if about.calibrated is None:
        probability = f"{about.probability:.3f} (not calibrated)"
    else:
        probability = f"{about.calibrated:.3f}"
    if about.of_class:
        probability = f"of {about.of_class} {probability}"
    click.echo(
        f"{patient_id}: probability {probability}; attention is of row {at.row}, "
        f"column {at.column} in slice {at.slice}: {out / PAGE}"
    )
