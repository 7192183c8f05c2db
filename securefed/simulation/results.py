"""What a finished run writes: the server's files, each hospital's own, and summary.json."""

from dataclasses import replace

from securefed.model_card import card
from securefed.privacy.accounting import largest
from securefed.record import model_file, times
from securefed.record.baselines import Baselines
from securefed.record.inventory import Inventory
from securefed.record.run_file import unit_in_words
from securefed.record.summary import Summary, client_seconds
from securefed.server import results as server_results
from securefed.server.rounds import RoundRecord
from securefed.simulation.reference import public_reference
from securefed.simulation.simulation import Simulation


def write_results(
    simulation: Simulation, final: RoundRecord, baselines: Baselines | None
) -> Summary:
    """Write the model, each hospital's own results, held_out.json and summary.json.

    Args:
        final: the evaluation after the last round.
    """
    folder = simulation.directory.path
    guarantees = simulation.group.guarantees().values()
    weakest = max(guarantees, key=lambda each: each.counted, default=None)
    made_up, canaries = simulation.data.simulation, simulation.settings.canaries.count
    if weakest:
        weakest = replace(weakest, unit=unit_in_words(weakest.unit, made_up))
    network = simulation.served.network()
    run = simulation.job.run
    model_file.write(
        folder,
        network,
        simulation.settings,
        weakest,
        made_up,
        run,
        canaries=canaries,
        calibration=final.calibration,
        reference=simulation.server.reference or public_reference(simulation.settings),
    )
    if final.scores is not None:
        classes = simulation.settings.task.classes
        server_results.held_out(final.scores, classes).write(folder)
    simulation.group.write_results(baselines.local if baselines else {})
    if baselines:
        baselines.write(folder)
    return write_summary(simulation, final, baselines)


def write_summary(
    simulation: Simulation, final: RoundRecord | None, baselines: Baselines | None
) -> Summary:
    """Write summary.json, which is last: with it a run is finished.

    Args:
        final: None where no round came to a model that could be scored.
    """
    folder, summary = simulation.directory.path, _summary(simulation, final, baselines)
    Inventory.of(folder, {Summary.NAME: summary.encode()}).write(folder)
    summary.write(folder)
    card.renew(folder)
    return summary


def _summary(
    simulation: Simulation, final: RoundRecord | None, baselines: Baselines | None
) -> Summary:
    guarantees = simulation.group.guarantees()
    epsilon = largest(guarantees.values())
    known = simulation.served.summary(final)
    worked = [times.read(simulation.directory.hospital(name)) for name in simulation.job.hospitals]
    return Summary(
        patients=sum(each.patients for each in simulation.group.declared().values()),
        simulation=simulation.data.simulation or None,
        canaries=simulation.settings.canaries.count or None,
        local_auc=baselines.mean_local if baselines else None,
        epsilon=epsilon,
        epsilon_by_client=None
        if epsilon is None
        else {name: each.counted for name, each in guarantees.items()},
        evaluation_epsilon=largest(simulation.group.evaluations().values()),
        **{**known, "client_seconds_per_round": client_seconds(worked, known["rounds"])},
    )
