"""What training patients' scans look like, among hospitals in folders of their own.

Of phantoms a server has no public reference, as of real patients: what its model has was paid for.
"""

from pathlib import Path

import pytest

from securefed.evidence import checks
from securefed.privacy import ledger_file, statement
from securefed.record import model_file
from securefed.record.noised_scores import SCAN_SUMS
from securefed.run_directory import Run
from securefed.wire.description import scan_noises_of
from tests.engine.four_sites import NAMES, make_four, settings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("patients")


def reference_of(folder: Path) -> bool:
    about = folder / model_file.NAME
    return model_file.read_reference(about, settings().model.modalities) is not None


def test_the_servers_model_has_what_everybody_paid_for(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few hospitals' patients are drowned; what is sent and paid for is the same.
    monkeypatch.setattr("securefed.model.scan_sums.ENOUGH", 0)
    four = make_four(tmp_path, data, settings(privacy={"reference_epsilon": 2.0}))
    assert four.play() is not None
    checks.require(Run.open(four.server))
    job = four.agreement.job(1)
    events = [noise.event for noise in scan_noises_of(job.settings).values()]
    for name in NAMES:
        folder = four.run_of(name)
        checks.require(Run.open(folder))
        assert not reference_of(folder)
        spent = statement.read(four.sites[name].folder / ledger_file.NAME).of_run(job.run)
        assert [each.event for each in spent.reservations][-2:] == events
        assert spent.guarantee().counted <= job.settings.privacy.epsilon
        assert all((folder / each.NAME).is_file() for each in SCAN_SUMS.values())


def test_without_dp_it_is_exact_and_nobody_without_the_setting_has_one(
    tmp_path: Path, data: Path
) -> None:
    for asked in (1.0, None):
        folder = tmp_path / str(asked)
        folder.mkdir()
        chosen = settings(privacy={"dp": False, "reference_epsilon": asked})
        four = make_four(folder, data, chosen, {"differential_privacy": False})
        assert four.play() is not None
        checks.require(Run.open(four.server))
        assert reference_of(four.server) == (asked is not None)
