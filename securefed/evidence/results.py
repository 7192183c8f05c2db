"""What a run came to, in one file and in another."""

from collections.abc import Iterator

import torch

from securefed.evidence.agreements import agreements
from securefed.evidence.class_results import close, of_classes
from securefed.model.auc import area_of_corners
from securefed.record import metrics, model_file, times
from securefed.record.agreement import Agreement
from securefed.record.baselines import Baselines
from securefed.record.check_point import CheckPoint
from securefed.record.mismatch import Mismatch
from securefed.record.summary import HeldOut, HospitalSummary, Summary, costs
from securefed.run_directory import Run


def of_rounds(run: Run) -> Iterator[Mismatch]:
    """Which rounds there were, and who was in them."""
    rounds = run.metrics.rounds
    numbers = [line.round for line in rounds]
    if numbers != list(range(1, len(numbers) + 1)):
        yield Mismatch(metrics.NAME, f"its rounds are {numbers}")
    if run.past_a_round:
        finished, last = CheckPoint.read(run.path).round, max(numbers, default=0)
        # A crash may come between a round's line and its check point; the last line scores.
        ends = {finished, finished + 1}
        if run.finished:
            ends = {finished + run.learned}
            if run.learned and run.job.plan.chooses:
                # The last round's parameters are scored, where planned, and then the best ones.
                ends.add(finished + 2)
        if last not in ends:
            yield Mismatch(metrics.NAME, f"ends with round {last}, the check point is {finished}")
    elif len(numbers) > 1:
        yield Mismatch(CheckPoint.NAME, f"missing, after {len(numbers)} rounds")
    for line in run.metrics.lines:
        if line.noise != run.settings.privacy.noise:
            told = f"noise of round {line.round} is {line.noise}"
            yield Mismatch(metrics.NAME, f"{told}, run.json has {run.settings.privacy.noise}")
    for round_line in rounds:
        strangers = {*round_line.survivors, *round_line.dropped} - set(run.hospitals)
        if strangers:
            told = f"round {round_line.round} has {', '.join(sorted(strangers))}"
            yield Mismatch(metrics.NAME, f"{told}, who are no hospitals of run.json")


def of_summary(run: Run) -> Iterator[Mismatch]:
    """Rounds, hospitals, patients, costs and scores of summary.json."""
    summary, about, found = run.summary, run.about, run.metrics
    finished = CheckPoint.read(run.path)
    rounds = [line for line in found.rounds if line.round <= finished.round]
    after = finished.round if summary.chosen_after is None else summary.chosen_after
    final = [line for line in found.rounds if line.round == after + 1]
    declared = [agreed.declared_patients for agreed in agreements(run).values()]
    patients = sum(declared) if len(declared) == len(run.hospitals) else summary.patients
    worked = [times.read(run.hospital(name)) for name in run.here]
    pairs = [
        ("rounds", summary.rounds, finished.round, CheckPoint.NAME),
        ("chosen_after", summary.chosen_after, _best_round(run, finished.round), metrics.NAME),
        ("clients", summary.clients, len(run.hospitals), "run.json"),
        ("patients", summary.patients, patients, Agreement.NAME),
        ("canaries", summary.canaries, run.settings.canaries.count or None, "run.json"),
        ("simulation", summary.simulation, about.data.simulation or None, "run.json"),
        (
            "rounds_aborted",
            summary.rounds_aborted,
            sum(not line.survivors for line in rounds),
            metrics.NAME,
        ),
        (
            "survivors_by_round",
            summary.survivors_by_round,
            tuple(len(line.survivors) for line in rounds),
            metrics.NAME,
        ),
        *(
            (name, getattr(summary, name), value, f"{metrics.NAME} and {times.NAME}")
            for name, value in costs(found, worked, finished.round).items()
        ),
        *(("auc", summary.auc, line.auc, metrics.NAME) for line in final),
        ("local_auc", summary.local_auc, _local_auc(run), Baselines.NAME),
    ]
    for name, told, follows, source in pairs:
        if told != follows:
            yield Mismatch(Summary.NAME, f"{name} is {told}, {source} gives {follows}")
    if summary.wall_seconds < finished.elapsed_s:
        told = f"wall_seconds is {summary.wall_seconds:.3f}"
        yield Mismatch(Summary.NAME, f"{told}, the check point was after {finished.elapsed_s:.3f}")


def _local_auc(run: Run) -> float | None:
    if not (run.path / Baselines.NAME).is_file():
        return None
    return Baselines.read(run.path).mean_local


def of_model(run: Run) -> Iterator[Mismatch]:
    """What is not shared is as everybody started with; what is, the messages tell."""
    if not run.learned:
        return
    released, shared = model_file.read(run.path), set(run.job.shared_names)
    start = run.job.network.state_dict()
    if released.keys() != start.keys():
        yield Mismatch(model_file.NAME, "its parameters are not those of the run's network")
        return
    for name, value in start.items():
        if name not in shared and not torch.equal(released[name], value):
            yield Mismatch(model_file.NAME, f"{name} is not what the run started with")
            return


def of_held_out(run: Run) -> Iterator[Mismatch]:
    """The scores of the summary, from the counts."""
    held_out, summary = run.held_out, run.summary
    if held_out is None:
        return  # files.missing tells whether it should be there
    yield from _held_out_everywhere(held_out, run)
    if summary.temperature != held_out.temperature:
        gives = f"gives temperature {held_out.temperature}"
        yield Mismatch(HeldOut.NAME, f"{gives}, {Summary.NAME} has {summary.temperature}")
    carried = model_file.released_calibration(run.settings, held_out.calibration)
    if model_file.read_calibration(run.path) != carried:
        yield Mismatch(model_file.NAME, f"its calibration is not that of {HeldOut.NAME}")
    said = held_out.confusion
    if said is None:
        yield from of_classes(held_out, summary)
        return
    right, wrong = said.true_positive + said.true_negative, said.false_positive
    wrong += said.false_negative
    positive = said.true_positive + said.false_negative
    negative = said.true_negative + said.false_positive
    found = said.true_positive
    for name, told, part, whole in (
        ("accuracy", summary.accuracy, right, right + wrong),
        ("sensitivity", summary.sensitivity, found, positive),
        ("specificity", summary.specificity, said.true_negative, negative),
        ("f1", summary.f1, 2 * found, 2 * found + wrong),
    ):
        follows = part / whole if whole else None
        if not close(told, follows):
            yield Mismatch(HeldOut.NAME, f"gives {name} {follows}, {Summary.NAME} has {told}")
    if right + wrong != held_out.patients:
        yield Mismatch(HeldOut.NAME, f"counts {right + wrong} patients of {held_out.patients}")
    follows = area_of_corners(held_out.roc) if held_out.roc else None
    if held_out.noise is None and not close(summary.auc, follows):
        yield Mismatch(HeldOut.NAME, f"gives auc {follows}, {Summary.NAME} has {summary.auc}")


def of_hospitals(run: Run) -> Iterator[Mismatch]:
    """Each hospital's own results: whose they are, and of how many patients."""
    local = Baselines.read(run.path).local if (run.path / Baselines.NAME).is_file() else {}
    agreed = agreements(run)
    for name in run.here:
        folder = run.hospital(name)
        if not (folder / HospitalSummary.NAME).is_file():
            continue  # told already
        own, place = HospitalSummary.read(folder), run.place(name, HospitalSummary.NAME)
        for what, told, follows in (
            ("name", own.name, name),
            ("noise", own.noise, run.settings.privacy.noise),
            ("local_auc", own.local_auc, local.get(name)),
        ):
            if told != follows:
                yield Mismatch(place, f"{what} is {told}, the run's is {follows}")
        records = agreed[name].records if name in agreed else own.training_patients
        if run.settings.privacy.unit == "patient" and own.training_patients != records:
            told = f"training_patients is {own.training_patients}"
            yield Mismatch(place, f"{told}, {run.place(name, Agreement.NAME)} has {records}")


def _held_out_everywhere(held_out: HeldOut, run: Run) -> Iterator[Mismatch]:
    """As many patients as the hospitals' own results have together, where that is known."""
    scored = [each.held_out_patients for each in run.hospital_results]
    exact = held_out.noise is None and len(scored) == len(run.hospitals)
    if exact and sum(scored) != held_out.patients:
        told = f"{sum(scored)} patients were held out, {HeldOut.NAME} has {held_out.patients}"
        yield Mismatch(f"hospitals/*/{HospitalSummary.NAME}", told)


def _best_round(run: Run, finished: int) -> int | None:
    """The first round whose result had the best AUC of all; None where the last is wanted."""
    if not (run.job.plan.chooses and run.learned):
        return None
    scored = [(auc, -after) for after, auc in run.metrics.curve if after <= finished]
    return -max(scored)[1] if scored else None
