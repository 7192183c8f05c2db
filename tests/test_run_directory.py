"""A run directory as a value: opened once, each file read once, and never one of another run."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import securefed
from securefed.errors import RunError
from securefed.files import read_bounded
from securefed.model.sharing import flatten
from securefed.record import json_file
from securefed.record.audit import AuditFile, Policy
from securefed.reporting.record import report_on
from securefed.run_directory import Run
from securefed.verdict import Verdict
from tests.tiny import tiny

TINY = tiny(
    data={"phantom": {"patients": 8, "test_patients": 6}},
    training={"batch_size": 4, "max_slices": 2},
    privacy={"dp": False},
    federation={"clients": 3, "rounds": 2, "evaluate_every": 1},
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    return securefed.run(TINY, out=out).path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def audit_of(subject: Run, /, **changes: Any) -> AuditFile:
    values: dict[str, Any] = {
        "run": subject.about.run,
        "configuration": subject.about.configuration,
        "effort": "quick",
        "seed": 0,
        "policy": Policy(name="default", set_by="tests", confidence=0.95, sha256="a" * 64),
        "verdict": Verdict.PASS,
        "judgements": (),
        "findings": (),
        "controls": (),
    }
    return AuditFile(**{**values, **changes})


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_finished_run_has_all_its_parts(path: Path) -> None:
    run = securefed.open_run(path)
    assert run.finished
    assert run.settings == securefed.settings(TINY)
    assert run.hospitals == ("hospital-1", "hospital-2", "hospital-3")
    assert [each.name for each in run.hospital_results] == list(run.hospitals)
    assert [line.round for line in run.rounds] == [1, 2]
    assert run.metrics.curve[-1] == (2, run.summary.auc)
    assert run.held_out is not None
    assert run.held_out.patients == sum(each.held_out_patients for each in run.hospital_results)
    assert run.audit is None
    assert run.complete() is run


def test_a_run_that_is_not_finished_can_be_looked_at_but_has_no_summary(path: Path) -> None:
    (path / "summary.json").unlink()
    run = Run.open(path)
    assert not run.finished
    assert [line.round for line in run.metrics.rounds] == [1, 2, 3]
    assert "not finished" in run._repr_html_()
    for results in (lambda: run.summary, lambda: run.rounds, run.complete):
        with pytest.raises(RunError, match="not finished") as refused:
            results()
        assert "--resume" in str(refused.value.hint)


def test_a_folder_without_a_run_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        Run.open(tmp_path)


def test_settings_of_another_version_are_refused_and_the_rest_still_opens(path: Path) -> None:
    edit(path / "run.json", lambda value: value["settings"].update(future=1))
    run = Run.open(path)
    assert run.summary.rounds == 2
    with pytest.raises(RunError, match=r"run.json does not hold the settings"):
        _ = run.settings


def test_hospitals_whose_folders_lie_elsewhere_have_no_results_here(path: Path) -> None:
    shutil.rmtree(path / "hospitals" / "hospital-2")
    names = [each.name for each in Run.open(path).hospital_results]
    assert names == ["hospital-1", "hospital-3"]


def test_a_summary_of_another_configuration_is_refused(path: Path) -> None:
    edit(path / "summary.json", lambda value: value.update(configuration="dp"))
    with pytest.raises(RunError, match=r"summary.json is of a dp run, run.json beside it of a sec"):
        _ = Run.open(path).summary


def test_the_audit_is_of_this_run(path: Path) -> None:
    audit_of(Run.open(path)).write(path)
    audit = Run.open(path).audit
    assert audit is not None
    assert audit.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"run": "f" * 32}, "another run"), ({"configuration": "plain"}, "is of a plain run")],
)
def test_the_audit_of_another_run_is_refused(
    path: Path, changes: dict[str, str], message: str
) -> None:
    audit_of(Run.open(path), **changes).write(path)
    with pytest.raises(RunError, match=message):
        _ = Run.open(path).audit


def test_a_report_reads_each_file_of_a_run_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit_of(Run.open(path)).write(path)
    reads = Counter[str]()

    def counted(file: Path, limit: int) -> bytes:
        reads[file.relative_to(path).as_posix()] += 1
        return read_bounded(file, limit)

    for module in (json_file, securefed.record.lines):
        monkeypatch.setattr(module, "read_bounded", counted)
    report_on(Run.open(path), [], {path: ()})
    assert set(reads) >= {"run.json", "summary.json", "metrics.jsonl", "audit.json"}
    assert set(reads.values()) == {1}


def test_the_released_network_is_the_callers_own_copy_of_what_the_file_holds(path: Path) -> None:
    run = securefed.open_run(path)
    network, released = run.network(), run.observers().outsider().released
    shared = dict(network.named_parameters())
    assert flatten(shared, run.job.shared_names).tobytes() == released.tobytes()
    with torch.no_grad():
        next(iter(network.parameters())).add_(1.0)
    again = dict(run.network().named_parameters())
    assert flatten(again, run.job.shared_names).tobytes() == released.tobytes()


def test_observers_are_derived_once_and_the_settings_are_the_runs_own(path: Path) -> None:
    run = securefed.open_run(path)
    assert run.observers() is run.observers()
    assert [view.number for view in run.observers().server().rounds] == [1, 2]
    assert run.settings == securefed.settings(TINY)


def test_weights_of_another_network_are_refused_by_name(path: Path) -> None:
    wider = {**TINY, "model": {"image_size": 32, "head_width": 3}}
    edit(path / "run.json", lambda about: about.update(settings=_plain(wider)))
    with pytest.raises(RunError, match=r"model\.safetensors does not fit the run's settings"):
        securefed.open_run(path).network()


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return securefed.settings(values).model_dump(mode="json")
