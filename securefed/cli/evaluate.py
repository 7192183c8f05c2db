"""`securefed evaluate`: how a released model does on patients whose labels are known."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from securefed.cli.asked_model import PATH, of_patients
from securefed.cli.data_output import listing, private_folder, progress_bar, require_new
from securefed.cli.screen import screen, show_next
from securefed.errors import DataError, RunError
from securefed.files import create_private, only_writer
from securefed.record.evaluation import EvaluationFile, Figures, Rate
from securefed.record.run_file import RunFile
from securefed.wording import first_of, listed

if TYPE_CHECKING:
    from securefed.data.table import Problem
    from securefed.prediction.model import ReleasedModel
    from securefed.prediction.predict import Predicting
    from securefed.prediction.table import Prediction
    from securefed.prediction.trained import Trained
    from securefed.record.class_evaluation import ClassEvaluationFile


@click.command()
@of_patients
@click.option("--out", type=PATH, help="Folder to make, with the page and evaluation.json.")
@click.option(
    "--by",
    "columns",
    multiple=True,
    metavar="COLUMN",
    help="Also by this column of the manifest, such as sex; can be given again.",
)
@click.option("--ledger", type=PATH, help="Of whom the model was trained on, to tell who trained.")
@click.option("--site-key", type=PATH, help="That tells these patients apart in the ledger.")
@click.option("--trained-too", is_flag=True, help="Measure patients that trained as well.")
@click.option("--no-card", is_flag=True, help="Leave the model card beside MODEL as it is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    model: Path,
    patients: Path,
    out: Path | None,
    personal: Path | None,
    columns: tuple[str, ...],
    ledger: Path | None,
    site_key: Path | None,
    trained_too: bool,
    no_card: bool,
    as_json: bool,
) -> None:
    """Say how well the model of a run tells patients apart whose labels are known.

    MODEL is a finished run's folder, or a model.safetensors; PATIENTS a manifest or a folder with
    labels. Area under the ROC curve, operating points, calibration and net benefit with 95%
    intervals: of all patients, by site, by what was acquired, and by columns of the manifest;
    groups of few patients are withheld. Of a model of several classes: each against the rest, and
    who is called what. In a run's folder the figures of all patients go onto the model's card.
    Patients that trained are refused, where a site's key and ledger tell. No epsilon covers the
    figures. Exit code 1: some lines or images cannot be used, and the figures are of the others.

    \b
    securefed evaluate runs/2026-01-31-120000-dp-secure other-site/manifest.csv --out evaluation
    securefed evaluate runs/2026-01-31-120000-dp-secure mine/manifest.csv --by sex --by scanner
    """
    from securefed.prediction.evaluate import Labelled, evaluation
    from securefed.prediction.model import load_model
    from securefed.prediction.predict import Predicting

    if out:
        require_new(out)
    if out and out.suffix == ".json":
        raise DataError(
            f"--out {out} is to be a folder: it gets {EvaluationFile.NAME} and a page",
            hint=f"give --out {out.with_suffix('')}",
        )
    opened = load_model(model, personal)
    if opened.classes and (columns or out):
        raise DataError(
            "of several classes there are figures of all patients only, without a page",
            hint="leave out --by and --out; --json has them all",
        )
    predicting = Predicting(opened, patients, labelled=True, anyway=True, further=columns)
    trained = _trained(
        opened, model, patients, predicting, ledger, site_key, refuse=not trained_too
    )
    predictions, labels, problems = _answered(predicting, quiet=as_json)
    if opened.classes:
        _of_classes(opened, trained, predicting, predictions, labels, problems, as_json=as_json)
    further = {column: predicting.further(column) for column in columns}
    labelled = Labelled.of(predictions, labels, opened.modalities, further)
    found = evaluation(opened, predicting, trained, labelled, len(problems))
    if out:
        _write(out, found)
    if as_json:
        click.echo(found.encode().decode(), nl=False)
    else:
        _show(found)
        listing("problems", problems)
        for note in predicting.notes:
            click.echo(f"note: {note}")
        if opened.cautions:
            click.echo(f"NOT FOR USE ON PATIENTS: {listed(opened.cautions)}")
        if out:
            click.echo(f"page: {out / 'evaluation.html'}, the same in {EvaluationFile.NAME}")
    if not (no_card or personal):
        evaluated = [each.patient_id for each in predictions]
        _add_to_card(model, found, evaluated, screen(quiet=as_json))
    sys.exit(1 if problems else 0)


def _trained(
    opened: "ReleasedModel",
    model: Path,
    patients: Path,
    predicting: "Predicting",
    ledger: Path | None,
    site_key: Path | None,
    *,
    refuse: bool,
) -> "Trained":
    """Who of them trained, before anybody is looked at."""
    from securefed.prediction.trained import Papers, require_strangers, who_trained

    for named in (ledger, site_key):
        if named and not named.is_file():
            raise DataError(f"there is no file {named}", hint="name the file, or leave it out")
    papers = Papers.beside(model, opened.run, patients).with_files(site_key, ledger)
    trained = who_trained(predicting.patient_ids, papers)
    if refuse:
        require_strangers(trained, len(predicting.patient_ids))
    return trained


def _of_classes(
    opened: "ReleasedModel",
    trained: "Trained",
    predicting: "Predicting",
    predictions: "list[Prediction]",
    labels: list[int],
    problems: "list[Problem]",
    *,
    as_json: bool,
) -> NoReturn:
    """The same command of a model of several classes, to its end."""
    from securefed.cli import class_evaluation
    from securefed.prediction.class_evaluation import evaluated

    found = evaluated(opened, trained, predictions, labels, len(problems))
    if as_json:
        click.echo(found.encode().decode(), nl=False)
        sys.exit(1 if problems else 0)
    class_evaluation.show(found)
    _show_trained(found)
    listing("problems", problems)
    for note in predicting.notes:
        click.echo(f"note: {note}")
    if opened.cautions:
        click.echo(f"NOT FOR USE ON PATIENTS: {listed(opened.cautions)}")
    sys.exit(1 if problems else 0)


def _answered(
    predicting: "Predicting", *, quiet: bool
) -> "tuple[list[Prediction], list[int], list[Problem]]":
    """All predictions, their labels, and what could not be used."""
    predictions: list[Prediction] = []
    labels: list[int] = []
    problems = list(predicting.problems)
    with progress_bar(quiet=quiet) as bar:
        for answered in predicting.answers():
            predictions += answered.predictions
            labels += answered.labels
            problems += answered.problems
            done, total = len(predictions), predicting.examples
            bar.reach(min(done / total, 1.0), f"{predicting.unit} {done}/{total}")
    if not predictions:
        raise DataError(
            f"nobody could be predicted: {first_of(problems) or 'nobody is there'}",
            hint="securefed data check lists every problem",
        )
    return predictions, labels, problems


def _write(out: Path, found: EvaluationFile) -> None:
    from securefed.reporting.evaluation_page import NAME, evaluation_page

    with private_folder(out):
        create_private(out / EvaluationFile.NAME, found.encode())
        create_private(out / NAME, evaluation_page(found).encode())


def _add_to_card(
    model: Path, found: EvaluationFile, evaluated: Iterable[str], console: Console
) -> None:
    """Add the figures of all patients to the card beside a run's model, unless they are few.

    Groups stay off it: a card goes with the model.

    Args:
        evaluated: ids of the patients.
    """
    from securefed.model_card import card, evaluated_before
    from securefed.reporting.integrity import SIGNATURE

    folder = model if model.is_dir() else model.parent
    told = card.evaluated(found)
    if told is None or not (folder / RunFile.NAME).is_file():
        return
    try:
        with only_writer(folder):
            there = card.of_model(folder).evaluations
            if any(msgspec.structs.replace(each, data=told.data) == told for each in there):
                made = card.renew(folder)  # the same figures, say of a manifest with a column more
            else:
                known = [each.data for each in there]
                evaluated_before.remember(folder, told.data, evaluated, known)
                made = card.renew(folder, told)
    except RunError as error:
        raise RunError(
            f"the figures are not on the model card: {error}",
            hint=error.hint or "they are complete without it; --no-card leaves the card as it is",
        ) from None
    if made:
        console.print(f"added to the model card: {folder / card.WORDS}")
        if (folder / SIGNATURE).is_file():
            console.print("the run's report was signed before; make it again:")
            show_next(console, "report", folder)


def _show(found: EvaluationFile) -> None:
    console = screen(stderr=False)
    console.print(_groups(found))
    console.print(_points(found.everybody))
    console.print(_calibration(found.everybody))
    console.print(_unlike(found))
    _show_trained(found)


def _show_trained(found: "EvaluationFile | ClassEvaluationFile") -> None:
    console = screen(stderr=False)
    if found.trained is None:
        console.print(f"whether they trained the model cannot be told: {found.trained_told}")
    elif found.trained:
        console.print(f"TOO GOOD: {found.trained} of the patients trained the model")


def _calibration(figures: Figures) -> str:
    told = f"expected calibration error {figures.calibration_error:.3f}"
    if figures.calibrated_error is not None:
        told += f", {figures.calibrated_error:.3f} by the model's temperature"
    else:
        told += ", of a model without a temperature"
    return f"{told}: predicted probabilities are off by so much on average"


def _unlike(found: EvaluationFile) -> str:
    if found.unlike is None:
        return "whether their scans are like those of the training is not known"
    if not found.unlike:
        return "none of their scans is unlike those of the training"
    return (
        f"{found.unlike} of them have scans unlike those of the training, and are in the figures; "
        "predict gives no answer for them"
    )


def _groups(found: EvaluationFile) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for column in ("patients", "", "n", "positive", "AUC", "95%", "sensitivity", "specificity"):
        table.add_column(column)
    for each in found.groups:
        if each.figures is None:
            table.add_row(each.column, each.value, "few: withheld")
            continue
        low, high = each.figures.auc_ci95
        half = each.figures.operating_points[0]
        table.add_row(
            each.column,
            each.value,
            str(each.patients),
            str(each.positives),
            f"{each.figures.auc:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{half.sensitivity.value:.3f}",
            f"{half.specificity.value:.3f}",
        )
    return table


def _points(figures: Figures) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for column in ("positive from", "probability", "sensitivity", "specificity"):
        table.add_column(column)
    for each in figures.operating_points:
        rates = (_text(each.sensitivity), _text(each.specificity))
        table.add_row(each.rule, f"{each.threshold:.3f}", *rates)
    return table


def _text(rate: Rate) -> str:
    if rate.value is None or rate.ci95 is None:
        return "nobody"
    return f"{rate.value:.3f} ({rate.ci95[0]:.3f} to {rate.ci95[1]:.3f})"
