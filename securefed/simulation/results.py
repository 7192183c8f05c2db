"""What a finished run writes: the model, each hospital's own results, summary.json."""

from dataclasses import asdict
from statistics import median
from typing import Any

from securefed.model.scores import Counts, Metrics, confusion, metrics, roc
from securefed.record.directory import SCHEMA, save_tensors
from securefed.server.rounds import RoundRecord
from securefed.simulation.baselines import Baselines
from securefed.simulation.simulation import Simulation


def write_results(
    simulation: Simulation, final: RoundRecord, baselines: Baselines | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write the model, each hospital's own results, summary.json and held_out.json.

    Args:
        final: the evaluation after the last round.

    Returns:
        The content of summary.json, and of each hospital's.
    """
    directory = simulation.directory
    about = {"schema": str(SCHEMA), "shape": simulation.settings.model.model_dump_json()}
    network = simulation.global_network()
    save_tensors(directory.path / "model.safetensors", network.state_dict(), about)
    hospitals = [_hospital(simulation, name, baselines) for name in simulation.clients]
    summary = _summary(simulation, final, baselines)
    directory.write_json("summary.json", summary)
    if final.scores is not None:
        directory.write_json("held_out.json", _held_out(final.scores))
    if baselines:
        directory.write_json("baselines.json", {"schema": SCHEMA, **asdict(baselines)})
    return summary, hospitals


def _held_out(scores: Counts) -> dict[str, Any]:
    """What the final model says of all held-out patients: totals, nobody's own score."""
    curve = roc(scores)
    return {
        "schema": SCHEMA,
        "patients": int(scores.sum()),
        "confusion": asdict(confusion(scores)),
        "roc": None if curve is None else curve.tolist(),
    }


def _hospital(simulation: Simulation, name: str, baselines: Baselines | None) -> dict[str, Any]:
    # The hospital's own view of the final model on its own patients; it stays in its folder.
    trainer = simulation.clients[name].trainer
    folder = simulation.directory.hospital(name)
    scored = metrics(trainer.evaluate())
    personal = trainer.personal()
    if personal:
        save_tensors(folder / "personal.safetensors", personal, {"schema": str(SCHEMA)})
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "name": name,
        "training_patients": trainer.patients,
        "held_out_patients": scored.patients,
        **_performance(scored),
        "local_auc": baselines.local[name] if baselines else None,
        "epsilon": simulation.spent().get(name),
    }
    simulation.directory.write_json(f"hospitals/{name}/summary.json", result)
    return result


def _summary(
    simulation: Simulation, final: RoundRecord, baselines: Baselines | None
) -> dict[str, Any]:
    settings, privacy = simulation.settings, simulation.settings.privacy
    lines = simulation.directory.read_metrics()
    # A round that was repeated after a crash counts as it went the last time.
    rounds = {line["round"]: line for line in lines if line["client"] is None}
    training = {k: v for k, v in rounds.items() if k <= simulation.server.finished}
    clients = [line for line in lines if line["client"] is not None and line["round"] in training]
    epsilon = simulation.spent()
    return {
        "schema": SCHEMA,
        "configuration": settings.configuration,
        "rounds": simulation.server.finished,
        "clients": len(simulation.clients),
        "patients": sum(len(hospital.train) for hospital in simulation.data.hospitals),
        **_performance(final.metrics),
        "local_auc": baselines.mean_local if baselines else None,
        "epsilon": max(epsilon.values()) if epsilon else None,
        "epsilon_by_client": epsilon or None,
        "delta": privacy.delta if privacy.dp else None,
        "privacy_unit": privacy.unit if privacy.dp else None,
        "accountant": privacy.accountant if privacy.dp else None,
        "bytes_up_per_client_round": _median([line["bytes_up"] for line in clients]),
        "bytes_down_per_client_round": _median([line["bytes_down"] for line in clients]),
        "client_seconds_per_round": _median(
            [line["train_s"] + line["protocol_s"] for line in clients]
        ),
        "aggregate_seconds_per_round": _median([line["server_s"] for line in training.values()]),
        "wall_seconds": simulation.elapsed_s(),
        "survivors_by_round": [len(line["survivors"]) for line in training.values()],
    }


def _performance(scored: Metrics | None) -> dict[str, Any]:
    return {
        "auc": scored.auc if scored else None,
        "auc_ci95": list(scored.auc_ci95) if scored and scored.auc_ci95 else None,
        "accuracy": scored.accuracy if scored else None,
        "sensitivity": scored.sensitivity if scored else None,
        "specificity": scored.specificity if scored else None,
        "f1": scored.f1 if scored else None,
    }


def _median(values: list[float]) -> float | None:
    return float(median(values)) if values else None
