"""summary.json: the run in flat, stable keys that scripts can rely on (DESIGN, section 6)."""

from statistics import median
from typing import Any

from securefed.federation.rounds import RoundRecord
from securefed.federation.run_directory import SCHEMA
from securefed.federation.simulation import Simulation


def summarise(
    simulation: Simulation, final: RoundRecord, wall_seconds: float, local_auc: float | None
) -> dict[str, Any]:
    """The summary of a finished (or stopped) run, from its metrics file and final evaluation.

    Args:
        final: the evaluation after the last round.
        wall_seconds: of the whole run, resumed parts included.
        local_auc: mean AUC of models trained alone, where that was asked for.
    """
    settings, privacy = simulation.settings, simulation.settings.privacy
    lines = simulation.directory.read_metrics()
    # A round that was repeated after a crash counts as it went the last time.
    rounds = {line["round"]: line for line in lines if line["client"] is None}
    training = {k: v for k, v in rounds.items() if k <= settings.federation.rounds}
    clients = [line for line in lines if line["client"] is not None and line["round"] in training]
    metrics = final.metrics
    epsilon = simulation.spent()
    return {
        "schema": SCHEMA,
        "configuration": settings.configuration,
        "rounds": simulation.server.finished,
        "clients": len(simulation.clients),
        "patients": sum(len(hospital.train) for hospital in simulation.data.hospitals),
        "auc": metrics.auc if metrics else None,
        "auc_ci95": list(metrics.auc_ci95) if metrics and metrics.auc_ci95 else None,
        "accuracy": metrics.accuracy if metrics else None,
        "sensitivity": metrics.sensitivity if metrics else None,
        "specificity": metrics.specificity if metrics else None,
        "f1": metrics.f1 if metrics else None,
        "local_auc": local_auc,
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
        "wall_seconds": wall_seconds,
        "survivors_by_round": [len(line["survivors"]) for line in training.values()],
    }


def _median(values: list[float]) -> float | None:
    return float(median(values)) if values else None
