"""`securefed evaluate`: how a released model does on patients whose labels are known."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from securefed.cli.asked_model import PATH, of_patients
from securefed.cli.data_output import listing, progress_bar
from securefed.cli.screen import screen
from securefed.errors import DataError
from securefed.files import create_private
from securefed.record.evaluation import EvaluationFile, Rate
from securefed.wording import listed

if TYPE_CHECKING:
    from securefed.prediction.table import Prediction


@click.command()
@of_patients
@click.option("--out", type=PATH, help="Write evaluation.json here too; a new file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    model: Path, patients: Path, out: Path | None, personal: Path | None, as_json: bool
) -> None:
    """Say how well the model of a run tells patients apart whose labels are known.

    MODEL is a finished run's folder, or a model.safetensors; PATIENTS a manifest or a folder with
    labels. Give patients that took no part in training: nothing here can tell. Area under the ROC
    curve, by site and by what was acquired, operating points and calibration, with 95% intervals.
    Exit code 1: some lines or images cannot be used, and the figures are of the others.

    \b
    securefed evaluate runs/2026-01-31-120000-dp-secure other-site/manifest.csv
    """
    from securefed.prediction import evaluate
    from securefed.prediction.model import load_model
    from securefed.prediction.predict import Predicting

    if out and out.exists():
        raise DataError(f"{out} exists already", hint="give --out a file that does not exist")
    opened = load_model(model, personal)
    predicting = Predicting(opened, patients, labelled=True)
    predictions: list[Prediction] = []
    labels: list[int] = []
    problems = list(predicting.problems)
    with progress_bar(quiet=as_json) as bar:
        for answered in predicting.answers():
            predictions += answered.predictions
            labels += answered.labels
            problems += answered.problems
            done, total = len(predictions), predicting.examples
            bar.reach(min(done / total, 1.0), f"{predicting.unit} {done}/{total}")
    labelled = evaluate.Labelled.of(predictions, labels, opened.modalities)
    bins = evaluate.reliability(labelled)
    found = EvaluationFile(
        model=opened.digest,
        privacy=opened.privacy,
        cautions=opened.cautions,
        groups=tuple(evaluate.groups(labelled)),
        operating_points=tuple(evaluate.operating_points(labelled)),
        reliability=tuple(bins),
        calibration_error=evaluate.calibration_error(bins),
        problems=len(problems),
    )
    if out:
        create_private(out, found.encode())
    if as_json:
        click.echo(found.encode().decode(), nl=False)
        sys.exit(1 if problems else 0)
    console = screen(stderr=False)
    console.print(_groups(found))
    console.print(_points(found))
    console.print(
        f"expected calibration error {found.calibration_error:.3f}: predicted probabilities are "
        "off by so much on average"
    )
    listing("problems", problems)
    if opened.cautions:
        console.print(f"NOT FOR USE ON PATIENTS: {listed(opened.cautions)}")
    sys.exit(1 if problems else 0)


def _groups(found: EvaluationFile) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for column in ("patients", "", "n", "positive", "AUC", "95%"):
        table.add_column(column)
    for each in found.groups:
        if each.auc is None or each.auc_ci95 is None:
            table.add_row(each.column, each.value, "few: withheld")
            continue
        low, high = each.auc_ci95
        table.add_row(
            each.column,
            each.value,
            str(each.patients),
            str(each.positives),
            f"{each.auc:.3f}",
            f"{low:.3f} to {high:.3f}",
        )
    return table


def _points(found: EvaluationFile) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for column in ("positive from", "probability", "sensitivity", "specificity"):
        table.add_column(column)
    for each in found.operating_points:
        rates = (_text(each.sensitivity), _text(each.specificity))
        table.add_row(each.rule, f"{each.threshold:.3f}", *rates)
    return table


def _text(rate: Rate) -> str:
    if rate.value is None or rate.ci95 is None:
        return "nobody"
    return f"{rate.value:.3f} ({rate.ci95[0]:.3f} to {rate.ci95[1]:.3f})"
