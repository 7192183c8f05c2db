"""`securefed server`: carries a federation's run, over connections from its hospitals."""

import json
from pathlib import Path

import click
import msgspec

from securefed.cli.follow import Following
from securefed.cli.screen import screen
from securefed.errors import NothingLearned
from securefed.record.summary import HeldOut, Summary

WAIT_S = 60.0


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=WAIT_S,
    show_default=True,
    help="Seconds for which missing hospitals are waited for, once enough are there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines: what happens, the result.")
def command(folder: Path, wait_s: float, as_json: bool) -> None:
    """Serve the run of FOLDER to its end.

    FOLDER is what `securefed deploy server` made. The run begins when all hospitals are connected,
    or enough of them have been for --wait seconds. Ctrl-C stops it after no round is lost: the same
    command goes on from the last finished one. Hospitals that were lost rejoin between rounds.
    """
    from securefed.engine.flare import processes
    from securefed.server import folder as server_folder

    agreement = server_folder.read(folder)
    if (folder / Summary.NAME).is_file():
        summary = Summary.read(folder)
    else:
        with Following(folder, as_json) as following, processes.server_program(folder) as program:
            following.tell(f"serving {agreement.name}, {agreement.digest[:16]}; stop: Ctrl-C")
            summary = processes.play(folder, following.tell, wait_s, program)
    if agreement.survey:
        _show_survey(folder, as_json)
        return
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(summary)))
    if summary.rounds_aborted == summary.rounds:
        raise NothingLearned(
            f"none of {summary.rounds} rounds opened a sum: there is no model",
            hint=f"{folder / 'metrics.jsonl'} has the reason of each; make another agreement",
        )
    if as_json:
        return
    show(summary, agreement.name, folder)


def _show_survey(folder: Path, as_json: bool) -> None:
    from securefed.cli import survey
    from securefed.record.survey import SurveyFile

    found = SurveyFile.read(folder)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found)))
    else:
        survey.show(found, screen(stderr=False))


def show(summary: Summary, name: str, folder: Path) -> None:
    """What a run came to."""
    from securefed.reporting.utility import cautions_of

    console = screen(stderr=False)
    survivors = summary.survivors_by_round
    console.print(
        f"{name}: {summary.rounds} rounds of {min(survivors)} to {max(survivors)} hospitals"
        + (f", {summary.rounds_aborted} without a sum" if summary.rounds_aborted else "")
    )
    if summary.auc is not None:
        interval = summary.auc_ci95
        told = f" (95% {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        made_up = f", simulation: {summary.simulation}" if summary.simulation else ""
        console.print(f"AUC on held-out patients: {summary.auc:.3f}{told}{made_up}")
    for one in summary.classes:
        if one.auc is not None and one.auc_ci95:
            told = f"{one.auc:.3f} (95% {one.auc_ci95[0]:.3f} to {one.auc_ci95[1]:.3f})"
            console.print(f"  {one.name} against the rest: {told}")
    if summary.chosen_after is not None:
        console.print(f"the model is what round {summary.chosen_after} came to, the best scored")
    if (folder / HeldOut.NAME).is_file():
        scored = HeldOut.read(folder)
        for caution in cautions_of(summary, scored):
            console.print(f"note: {caution}", style="yellow")
    console.print(f"model and results are in {folder}")
