"""Attacks follow the axis of modalities: an audit of CT, MRI and PET has every family's figures."""

from pathlib import Path

import pytest

from securefed.auditing.audit import audit
from securefed.run_directory import Run
from securefed.simulation.results import write_results
from tests.tiny import finish, settings_with, start

settings = settings_with(
    data={"phantom": {"patients": 12, "test_patients": 56, "missing_context": 0.1}},
    model={"query": "ct", "context": ["mri", "pet"]},
    training={"batch_size": 6, "max_slices": 1},
    federation={"clients": 3, "rounds": 2},
)
FAMILIES = ("head leakage", "inversion", "membership", "property inference", "source inference")


@pytest.mark.slow
def test_every_family_finds_figures_of_three_modalities(tmp_path: Path) -> None:
    plain = settings(privacy={"dp": False}, secure_aggregation={"enabled": False})
    run = start(plain, tmp_path / "run")
    finish(run)
    write_results(run, run.evaluate(), None)
    file = audit(Run.open(tmp_path / "run"), effort="quick", attacks=FAMILIES)
    measured = {each.attack for each in file.findings if each.value is not None}
    assert measured == set(FAMILIES)
    properties = {each.method for each in file.findings if each.attack == "property inference"}
    assert {"without PET", "bright PET", "bright CT"} <= properties
