"""The package from Python: light to import, the same run as the command line's, typed results."""

import ast
import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import securefed
from securefed.errors import ConfigurationError, Interrupted, PrivacyError, RunError
from securefed.privacy.accounting import Event, epsilon
from securefed.server.summation import SecureSummation
from securefed.simulation.execution import execute
from tests.tiny import changed, tiny

TINY = tiny(
    data={"phantom": {"patients": 10, "test_patients": 6}},
    training={"max_slices": 3},
    federation={"clients": 3, "shared": "classifier", "rounds": 3, "evaluate_every": 2},
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> securefed.Run:
    return securefed.run(TINY, out=tmp_path_factory.mktemp("api") / "run")


@pytest.fixture
def copied(result: securefed.Run, tmp_path: Path) -> Path:
    """A run directory to spoil."""
    return Path(shutil.copytree(result.path, tmp_path / "copy"))


# The package


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, securefed\n"
        "first = sorted(set(sys.modules) & {'torch', 'numpy', 'pydantic', 'scipy'})\n"
        "securefed.Settings, securefed.run, securefed.load, securefed.plan, securefed.Run\n"
        "print(first, sorted(set(sys.modules) & {'torch', 'scipy', 'opacus', 'matplotlib'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "[] []\n"


def test_every_promised_name_is_there_and_no_other() -> None:
    for name in securefed.__all__:
        assert getattr(securefed, name).__name__ == name
    assert set(securefed.__all__) <= set(dir(securefed))
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        securefed.rum  # noqa: B018  # a misspelling, on purpose


def test_a_type_checker_sees_the_names_that_are_loaded_lazily() -> None:
    tree = ast.parse(Path(securefed.__file__).read_text())
    (typing,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in typing.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: getattr(securefed, name).__module__ for name in securefed.__all__}


# Settings


def test_nested_and_dotted_keys_say_the_same() -> None:
    nested = securefed.settings({"privacy": {"epsilon": 4.0, "delta": 1e-4}, "seed": 3})
    dotted = securefed.settings({"privacy.epsilon": 4.0, "privacy": {"delta": 1e-4}, "seed": 3})
    assert nested == dotted
    assert nested.privacy.epsilon == 4.0
    assert securefed.settings(nested) is nested
    assert securefed.settings() == securefed.Settings()


def test_a_settings_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("privacy: {epsilon: 2.5}\n")
    for path in (tmp_path / "c.yaml", str(tmp_path / "c.yaml")):
        assert securefed.settings(path).privacy.epsilon == 2.5


def test_the_callers_mapping_is_left_as_it_was() -> None:
    given = {"privacy": {"epsilon": 4.0}, "privacy.delta": 1e-4}
    securefed.settings(given)
    assert given == {"privacy": {"epsilon": 4.0}, "privacy.delta": 1e-4}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"privacy": {"epsilom": 4.0}}, "privacy.epsilom"),
        ({"privacy": {"epsilon": "4"}}, "privacy.epsilon"),
        ({"privacy": {"epsilon": 4.0}, "privacy.epsilon": 8.0}, "privacy.epsilon is given twice"),
        ({"privacy": 3}, "privacy"),
        ({1: 2}, "got 1"),
        ("missing.yaml", "missing.yaml"),
        (3.5, "got float"),
    ],
)
def test_wrong_settings_are_refused(source: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        securefed.settings(source)


# Runs


def test_a_result_is_what_the_files_of_the_run_say(result: securefed.Run) -> None:
    written = json.loads((result.path / "summary.json").read_text())
    for key, value in written.items():
        held = getattr(result.summary, key)
        assert (list(held) if isinstance(held, tuple) else held) == value, key
    assert set(result.summary.__struct_fields__) == set(written)
    assert result.summary.configuration == "dp+secure"
    assert result.settings == securefed.settings(TINY)


def test_hospitals_and_rounds_are_records_in_order(result: securefed.Run) -> None:
    assert [each.name for each in result.hospital_results] == [
        "hospital-1",
        "hospital-2",
        "hospital-3",
    ]
    assert [each.training_patients for each in result.hospital_results] == [10, 10, 10]
    assert [each.round for each in result.rounds] == [1, 2, 3]
    assert [each.auc is not None for each in result.rounds] == [True, False, True]
    spent = [each.epsilon for each in result.rounds]
    assert spent == sorted(spent, key=lambda value: value or 0.0)
    assert spent[-1] == result.summary.epsilon


def test_results_are_frozen(result: securefed.Run) -> None:
    values = (result.about, result.summary, result.rounds[0], result.hospital_results[0])
    for value in values:
        with pytest.raises(AttributeError):
            setattr(value, value.__struct_fields__[0], None)
    with pytest.raises(FrozenInstanceError):
        result.path = Path()  # type: ignore[misc]  # on purpose


def test_the_guarantee_has_all_that_epsilon_means(result: securefed.Run) -> None:
    assert result.guarantee is not None
    assert result.guarantee.epsilon == result.summary.epsilon
    assert 0 < result.guarantee.counted <= 8
    for part in ("delta 0.001", "per made-up patient", "add/remove", "poisson", "PRV"):
        assert part in str(result.guarantee)


def test_a_run_without_dp_has_no_guarantee(tmp_path: Path) -> None:
    short = changed(TINY, privacy={"dp": False}, federation={"rounds": 1})
    plain = securefed.run(short, out=tmp_path / "run")
    assert plain.guarantee is None
    assert plain.summary.epsilon is None
    assert "no epsilon" in plain._repr_html_()


def test_loading_gives_the_same_again(result: securefed.Run) -> None:
    for again in (securefed.load(result.path), securefed.load(str(result.path))):
        assert again == result
        assert again.summary == result.summary
        assert again.rounds == result.rounds
        assert again.hospital_results == result.hospital_results


def test_a_plan_foretells_what_the_run_spends(result: securefed.Run) -> None:
    plan = securefed.plan(TINY)
    assert result.guarantee is not None
    # A plan is about the settings; the run knows that its patients are phantoms.
    assert plan.dearest.guarantee == replace(result.guarantee, unit="patient")


def test_the_default_directory_says_when_and_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = changed(TINY, privacy={"dp": False}, federation={"rounds": 1})
    first, second = securefed.run(short), securefed.run(short)
    assert first.path.parent == second.path.parent == Path("runs")
    assert first.path != second.path
    assert "secure" in first.path.name


def test_progress_shows_rounds_and_notes_on_stderr_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = changed(TINY, federation={"rounds": 2})
    securefed.run(short, out=tmp_path / "loud", progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "2/2" in shown.err
    assert "SIMULATION (phantom)" in shown.err


def test_without_progress_a_run_is_silent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = changed(TINY, federation={"rounds": 1})
    securefed.run(short, out=tmp_path / "run")
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_a_run_leaves_threads_signals_and_the_log_as_they_were(tmp_path: Path) -> None:
    logger = logging.getLogger("securefed")
    torch.set_num_threads(2)  # a run of three hospitals takes one each
    before = (torch.get_num_threads(), signal.getsignal(signal.SIGINT), list(logger.handlers))
    securefed.run(changed(TINY, privacy={"dp": False}), out=tmp_path / "run")
    after = (torch.get_num_threads(), signal.getsignal(signal.SIGINT), list(logger.handlers))
    torch.set_num_threads(1)
    assert before == after
    assert logger.propagate


def test_ctrl_c_ends_the_round_and_the_run_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: securefed.Run
) -> None:
    out = tmp_path / "run"
    sum_once = SecureSummation.sum

    def interrupted(self: SecureSummation, *arguments: Any) -> Any:
        if arguments[0].train:
            signal.raise_signal(signal.SIGINT)  # in the middle of a round
        return sum_once(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(SecureSummation, "sum", interrupted)
        with pytest.raises(Interrupted, match="after round 1 of 3"):
            securefed.run(TINY, out=out)
    with pytest.raises(RunError, match="not finished"):
        securefed.load(out)
    resumed = securefed.resume(out)
    assert [each.round for each in resumed.rounds] == [1, 2, 3]
    # Spent is spent, and no round twice: the whole history is that of a run without a stop.
    assert resumed.summary.epsilon == result.summary.epsilon


def test_a_run_in_another_thread_works(tmp_path: Path) -> None:
    short = changed(TINY, federation={"rounds": 1})
    found: list[securefed.Run] = []
    thread = threading.Thread(target=lambda: found.append(securefed.run(short, out=tmp_path / "r")))
    thread.start()
    thread.join(timeout=300)
    assert found[0].summary.rounds == 1


def test_a_used_directory_is_refused(result: securefed.Run) -> None:
    with pytest.raises(RunError, match="not empty"):
        securefed.run(TINY, out=result.path)


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        securefed.resume(tmp_path)


def test_a_run_does_not_continue_with_other_settings(copied: Path) -> None:
    other = securefed.settings(changed(TINY, seed=4))
    with pytest.raises(RunError, match="is not empty"):
        execute(other, copied)


# Damaged and hostile run directories


def test_loading_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        securefed.load(tmp_path)


def change(path: Path, **values: object) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"auc": "high"}, r"summary.json.*\$.auc"),
        ({"configuration": "open"}, "configuration"),
        ({"survivors_by_round": 3}, "survivors_by_round"),
        ({"schema": 99}, "schema 99"),
    ],
)
def test_a_wrong_value_in_the_summary_is_named(
    copied: Path, values: dict[str, object], message: str
) -> None:
    change(copied / "summary.json", **values)
    with pytest.raises(RunError, match=message):
        securefed.load(copied)


def test_keys_of_later_versions_are_left_out(copied: Path, result: securefed.Run) -> None:
    change(copied / "summary.json", novelty=1)
    assert securefed.load(copied).summary == result.summary


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "run.json"])
def test_a_file_that_is_no_json_is_an_error_of_the_run(copied: Path, name: str) -> None:
    (copied / name).write_text("{nonsense\n")
    with pytest.raises(RunError, match=name):
        securefed.load(copied)


def test_a_missing_hospital_is_an_error_of_the_run(copied: Path) -> None:
    (copied / "hospitals" / "hospital-2" / "summary.json").unlink()
    with pytest.raises(RunError, match="hospital-2"):
        securefed.load(copied)


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", ".."])
def test_a_hospitals_name_leads_nowhere_else(copied: Path, name: str) -> None:
    about = json.loads((copied / "run.json").read_text())
    change(copied / "run.json", data={**about["data"], "hospitals": [name]})
    with pytest.raises(RunError, match="names a hospital"):
        securefed.load(copied)


def test_a_repeated_round_counts_as_it_went_the_last_time(copied: Path) -> None:
    path = copied / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    again = {**next(line for line in lines if line["round"] == 2), "wall_s": 123.0}
    with path.open("a") as out:
        out.write(json.dumps(again) + "\n")
    rounds = securefed.load(copied).rounds
    assert [each.round for each in rounds] == [1, 2, 3]
    assert rounds[1].wall_s == 123.0


# Tables


def test_rounds_and_hospitals_become_data_frames(result: securefed.Run) -> None:
    pytest.importorskip("pandas", reason="pandas is no dependency")
    rounds, hospitals = result.to_pandas(), result.to_pandas("hospitals")
    assert list(rounds["round"]) == [1, 2, 3]
    assert list(rounds["epsilon"]) == [each.epsilon for each in result.rounds]
    assert list(hospitals["name"]) == [each.name for each in result.hospital_results]


def test_without_pandas_the_way_out_is_said(
    result: securefed.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match="not installed") as refused:
        result.to_pandas()
    assert refused.value.hint is not None
    assert "pip install pandas" in refused.value.hint


def test_a_table_that_is_not_there_is_refused(result: securefed.Run) -> None:
    with pytest.raises(ConfigurationError, match="'clients'"):
        result.to_pandas("clients")  # type: ignore[arg-type]


def test_a_notebook_shows_a_table_with_headers_and_the_meaning_of_epsilon(
    result: securefed.Run,
) -> None:
    shown = result._repr_html_()
    assert shown.count('<th scope="row">') == 4
    assert "hospital-3" in shown
    assert "per made-up patient (add/remove adjacency" in shown


def test_names_in_a_notebook_are_text_and_never_markup(copied: Path) -> None:
    (copied / "hospitals" / "hospital-1" / "summary.json").write_text(
        (copied / "hospitals" / "hospital-1" / "summary.json")
        .read_text()
        .replace('"hospital-1"', '"<script>alert(1)</script>"')
    )
    shown = securefed.load(copied)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


# Plans


def test_noise_alone_gives_epsilon_and_both_give_rounds() -> None:
    given = securefed.plan(TINY, noise_multiplier=2.0)
    assert given.question == "epsilon"
    assert given.dearest.guarantee.counted == epsilon([Event(2.0, 0.5, 3)], 1e-3)
    rounds = securefed.plan(TINY, noise_multiplier=2.0, epsilon=6.0)
    assert rounds.question == "rounds"
    assert rounds.dearest.guarantee.counted <= 6.0
    more = epsilon([Event(2.0, 0.5, rounds.rounds + 1)], 1e-3)
    assert more > 6.0


def test_patients_of_each_hospital_may_be_numbers_or_names() -> None:
    numbers = securefed.plan(TINY, patients=[10, 40])
    names = securefed.plan(TINY, patients={"north": 10, "south": 40})
    assert [each.training.name for each in numbers.hospitals] == ["hospital-1", "hospital-2"]
    assert [each.training.name for each in names.hospitals] == ["north", "south"]
    assert [e.noise_multiplier for e in numbers.hospitals] == [
        e.noise_multiplier for e in names.hospitals
    ]
    assert numbers.hospitals[0].noise_multiplier > numbers.hospitals[1].noise_multiplier


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"patients": []}, ConfigurationError, "no hospital"),
        ({"patients": [0]}, ConfigurationError, "at least 1"),
        ({"patients": [2.5]}, ConfigurationError, "whole number"),
        ({"patients": [100_000]}, PrivacyError, "delta"),
        ({"epsilon": -1.0}, ConfigurationError, "privacy.epsilon"),
        ({"noise_multiplier": 0.0}, ConfigurationError, "noise_multiplier"),
    ],
)
def test_a_plan_of_nonsense_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        securefed.plan(TINY, **arguments)


# Audits


def test_an_audit_of_a_run_or_of_its_directory_gives_what_it_wrote(copied: Path) -> None:
    attacks = ("epsilon", "malicious server")
    file = securefed.audit(copied, effort="quick", observers=("server",), attacks=attacks)
    assert file == securefed.open_run(copied).audit
    assert {line.attack for line in file.judgements if line.observer} == set(attacks)
    assert all(check.refused for check in file.checks if check.expected)
    again = securefed.audit(
        securefed.open_run(copied), effort="quick", observers=("server",), attacks=attacks
    )
    assert again.findings == file.findings


def test_an_audit_that_was_stopped_is_no_answer(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("attacks.epsilon.family.controls", stopped)
    with pytest.raises(Interrupted, match=r"audit\.json"):
        securefed.audit(copied, effort="quick", attacks=("epsilon",))
    kept = securefed.open_run(copied).audit
    assert kept is not None
    assert kept.interrupted


def test_an_audit_of_what_is_no_run_or_by_nobody_is_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere"):
        securefed.audit(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="no attack 'astrology'"):
        securefed.audit(copied, attacks=("astrology",))
