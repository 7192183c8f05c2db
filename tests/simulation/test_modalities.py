"""A federation of any modalities trains, from phantoms of its own and from a manifest."""

from pathlib import Path

import pytest

from securefed.data.phantom_files import write_phantoms
from securefed.record.baselines import Baselines
from securefed.run_directory import Run
from securefed.simulation import baselines
from securefed.simulation.patients import load_data, phantom_spec
from tests.tiny import finish, settings_with, start

settings = settings_with(
    data={"phantom": {"patients": 12, "test_patients": 6, "missing_query": 0.2}},
    training={"batch_size": 8, "max_slices": 2},
    federation={"clients": 3, "rounds": 2, "evaluate_every": 1},
)
KINDS = {
    "PET-MRI": ("pet", ["mri"]),
    "CT-MRI-PET": ("ct", ["mri", "pet"]),
    "SPECT-MRI": ("spect", ["mri"]),
    "MRI sequences": ("t1", ["t2", "flair"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_privately_and_under_masks(kind: str, tmp_path: Path) -> None:
    query, context = KINDS[kind]
    run = start(settings(model={"query": query, "context": context}), tmp_path / "run")
    records = finish(run)
    assert [len(record.survivors) for record in records] == [3, 3]
    metrics = run.evaluate().metrics
    assert metrics is not None
    assert metrics.auc is not None
    names = {name for name, _ in run.job.network.named_parameters()}
    assert {f"fusion.missing_{each}" for each in (query, *context)} <= names
    assert {f"fusion.key_{each}.weight" for each in context} <= names
    assert Run.open(run.directory.path).settings.model.context == tuple(context)


def test_every_modality_has_a_baseline(tmp_path: Path) -> None:
    plain = settings(
        model={"query": "ct", "context": ["mri", "pet"]},
        privacy={"dp": False},
        secure_aggregation={"enabled": False},
        federation={"rounds": 1},
        evaluation={"baselines": True},
    )
    run = start(plain, tmp_path / "run")
    finish(run)
    found = baselines.train_baselines(run)
    assert isinstance(found, Baselines)
    assert found.one_modality.keys() == {"ct", "mri", "pet"}
    folders = {path.name for path in (run.directory.path / "baselines").iterdir()}
    assert folders == {"alone", "ct-only", "mri-only", "pet-only"}


def test_a_manifest_with_more_modalities_trains_on_those_that_are_asked_for(
    tmp_path: Path,
) -> None:
    three = settings(model={"query": "ct", "context": ["mri", "pet"]})
    write_phantoms(tmp_path / "scans", phantom_spec(three), 3, 20, seed=2)
    asked = settings(
        data={"manifest": str(tmp_path / "scans" / "manifest.csv"), "partition": "site"},
        model={"query": "pet", "context": ["ct"]},
    )
    data = load_data(asked)
    run = start(asked, tmp_path / "run", data)
    patients = [patient for hospital in data.hospitals for patient in hospital.train]
    assert {patient.modalities for patient in patients} == {("pet", "ct")}
    assert len(finish(run)) == 2
