"""A hospital's own view of the final model, on its own patients; it stays in its folder."""

from typing import Any

from securefed.hospital.opening import Hospital
from securefed.model.scores import metrics
from securefed.record.directory import SCHEMA, RunDirectory, save_tensors
from securefed.record.results import performance


def write_results(hospital: Hospital, local_auc: float | None) -> dict[str, Any]:
    """Write summary.json, and the parameters that never leave; returns the summary's content.

    Args:
        local_auc: of the model it trained alone, where the run had baselines.
    """
    trainer = hospital.trainer
    scored = metrics(trainer.evaluate())
    personal = trainer.personal()
    if personal:
        save_tensors(hospital.folder / "personal.safetensors", personal, {"schema": str(SCHEMA)})
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "name": hospital.name,
        "training_patients": trainer.patients,
        "held_out_patients": scored.patients,
        **performance(scored),
        "local_auc": local_auc,
        "epsilon": hospital.ledger.spent() if hospital.ledger else None,
    }
    RunDirectory(hospital.folder).write_json("summary.json", result)
    return result
