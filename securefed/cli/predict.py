"""`securefed predict`: what a released model says of patients."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from securefed.cli.asked_model import PATH, of_patients
from securefed.cli.data_output import listing, progress_bar, require_outside_runs
from securefed.data.table import Problem
from securefed.errors import ConfigurationError, DataError
from securefed.files import only_writer
from securefed.wording import counted, listed

if TYPE_CHECKING:
    from securefed.prediction.model import ReleasedModel
    from securefed.prediction.table import Prediction


@click.command()
@of_patients
@click.option("--out", type=PATH, help="CSV to write; one that is there is taken up again.")
@click.option("--site-key", type=PATH, help="Of a DICOM tree: key of its patients' pseudonyms.")
@click.option("--anyway", is_flag=True, help="Answer also of scans unlike those of the training.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(
    model: Path,
    patients: Path,
    out: Path | None,
    personal: Path | None,
    site_key: Path | None,
    anyway: bool,
    as_json: bool,
) -> None:
    """Say for each patient, study or slice how probable a tumour is, or each class of the model.

    MODEL is a finished run's folder, or a model.safetensors. PATIENTS is a manifest or a folder, as
    for `securefed run`, or a DICOM tree, which is imported to a temporary folder; labels are not
    needed and not looked at. A patient may lack a modality. Of several classes each
    has a column, and the likeliest is called.
    Probabilities are calibrated, with a 95% interval, where the run could tell how; they are no
    diagnosis. Scans unlike those of the training get none, where the model knows what those look
    like. Exit code 1: some lines or images cannot be used, and the others are there.

    \b
    securefed predict runs/2026-01-31-120000-dp-secure mine/manifest.csv --out predictions.csv
    securefed predict runs/2026-01-31-120000-dp-secure scans --site-key mine.site-key
    """
    from securefed.cli.passing_import import imported
    from securefed.data.folders import holds_scans
    from securefed.prediction import table
    from securefed.prediction.model import load_model
    from securefed.prediction.predict import Predicting

    opened = load_model(model, personal)
    if out:
        require_outside_runs(out)
    series: list[str] = []
    notes: list[str] = []
    problems: list[Problem] = []
    if holds_scans(patients):
        if out and out.exists():
            raise DataError(
                f"{out} exists already, and predictions of a DICOM tree are not gone on with",
                hint="securefed data import first, and predict for its manifest",
            )
        made = imported(patients, opened.modalities, site_key, quiet=as_json)
        patients, report = click.get_current_context().with_resource(made)
        series = [line for each in report.series for line in each.lines()]
        problems += report.problems
        notes += [*map(str, report.notes), *report.skipped.lines()]
    elif site_key:
        raise ConfigurationError(
            f"--site-key is for a DICOM tree, and {patients} is none", hint="leave it out"
        )
    predicting = Predicting(opened, patients, labelled=False, anyway=anyway)
    problems += predicting.problems
    notes += predicting.notes
    kept = table.read(out, opened.classes) if out and out.exists() else []
    if {(each.model, each.data) for each in kept} - {predicting.digests}:
        raise DataError(
            f"{out} has predictions of another model, or of other patients",
            hint="give --out another file, or remove this one",
        )
    if anyway and any(each.probability is None for each in kept):
        raise DataError(
            f"{out} has lines without an answer, which --anyway would have given",
            hint="give --out another file, or remove this one",
        )
    found = list(kept)
    total, unit = predicting.examples, predicting.unit
    several, noun = unit != "patient", "patient" if unit == "patient" else "example"
    with progress_bar(quiet=as_json) as bar:
        for answered in predicting.answers(
            frozenset((each.patient_id, each.example) for each in kept)
        ):
            found += answered.predictions
            problems += answered.problems
            if out:
                with only_writer(out):
                    table.append(out, answered.predictions, opened.classes)
            bar.reach(min(len(found) / total, 1.0), f"{unit} {len(found)}/{total}")
    if as_json:
        facts = {
            "model": opened.digest,
            "privacy": opened.privacy,
            "cautions": opened.cautions,
            "calibration": msgspec.to_builtins(opened.calibration),
            "unlike_known": opened.reference is not None,
            "uncalibrated": opened.uncalibrated,
            "series": series,
            "problems": list(map(str, problems)),
            "predictions": [table.told(each, opened.classes) for each in found],
        }
        click.echo(json.dumps(facts))
        sys.exit(1 if problems else 0)
    if not out:
        click.echo(
            f"{'patient':<32} {'site':<14} "
            + f"{unit:<10} " * several
            + f"{'called':<16} " * bool(opened.classes)
            + f"probability  {'95% interval':<14}  {'missing':<8}  unlike"
        )
        for each in found:
            click.echo(
                f"{each.patient_id:<32.32} {each.site:<14.14} "
                + f"{each.example:<10.10} " * several
                + f"{each.called:<16.16} " * bool(opened.classes)
                + f"{_probability(each)}  {each.missing or '-':<8}  {each.unlike or '-'}"
            )
    click.echo(_likeness(opened, sum(each.strange for each in found), noun, anyway=anyway))
    if opened.uncalibrated:
        click.echo(f"not calibrated, as the network gives them: {opened.uncalibrated}")
    if series:
        click.echo("series that were chosen, and those left:")
        for line in series:
            click.echo(f"  {line}")
    listing("problems", problems)
    for note in notes:
        click.echo(f"note: {note}")
    if opened.cautions:
        click.echo(f"NOT FOR USE ON PATIENTS: {listed(opened.cautions)}")
    where = f": {out}" if out else ""
    now = len(found) - len(kept)
    click.echo(f"{len(found)} of {counted(total, noun)}, {now} of them now{where}")
    sys.exit(1 if problems else 0)


def _likeness(model: "ReleasedModel", strange: int, noun: str, *, anyway: bool) -> str:
    if model.reference is None:
        return "whether these scans are like those of the training is not known"
    if not strange:
        return "no scans are unlike those of the training"
    told = f"{counted(strange, noun)} with scans unlike those of the training"
    return told if anyway else f"{told}: no answer for them (--anyway gives one)"


def _probability(each: "Prediction") -> str:
    """The calibrated one with its interval, else the network's own, else none."""
    if each.probability is None:
        return f"{'withheld':>11}  {'-':<14}"
    if each.calibrated is None:
        return f"{each.probability:11.3f}  {'-':<14}"
    interval = f"{each.calibrated_low:.3f} to {each.calibrated_high:.3f}"
    return f"{each.calibrated:11.3f}  {interval:<14}"
