"""A hospital's own view of the final model, on its own patients; it stays in its folder."""

from securefed.hospital.opening import Hospital
from securefed.model.class_scores import metrics
from securefed.record.directory import SCHEMA, save_tensors
from securefed.record.summary import HospitalSummary, performance


def write_results(hospital: Hospital, local_auc: float | None) -> None:
    """Write summary.json, and the parameters that never leave.

    Args:
        local_auc: of the model it trained alone, where the run had baselines.
    """
    trainer = hospital.trainer
    scored = metrics(trainer.evaluate())
    guarantee = hospital.spent.guarantee() if hospital.spent else None
    personal = trainer.personal()
    if personal:
        save_tensors(hospital.folder / "personal.safetensors", personal, {"schema": str(SCHEMA)})
    HospitalSummary(
        name=hospital.name,
        training_patients=trainer.patients,
        held_out_patients=scored.patients,
        local_auc=local_auc,
        noise=guarantee.noise if guarantee else "none",
        epsilon=guarantee.epsilon if guarantee else None,
        **performance(scored, trainer.network.shape.classes),
    ).write(hospital.folder)
