"""A comparison changes only what it must, keeps what is finished, and refuses what is not its own.

`compared` is a real comparison of tiny runs, made once; tests that change files work on copies.
"""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from securefed.auditing.choices import Effort
from securefed.comparison import comparison, runs
from securefed.comparison.audits import make_audit
from securefed.comparison.comparison import compare, work_left
from securefed.comparison.held_out import HeldOut
from securefed.comparison.leakage import leakage
from securefed.comparison.plan import (
    MAY_DIFFER,
    Case,
    Plan,
    plan,
    require_alike,
    splits_fingerprint,
)
from securefed.comparison.rows import convergence_round, interval_over_seeds
from securefed.config import Settings
from securefed.errors import ConfigurationError, Interrupted, RunError
from securefed.model.scores import metrics
from securefed.record import recording
from securefed.record.audit import AuditFile, Judgement, Policy
from securefed.record.run_file import RunFile
from securefed.run_directory import Run
from securefed.settings_file import dotted
from securefed.simulation import execution
from securefed.simulation.patients import load_data
from securefed.verdict import Verdict
from securefed.wire import messages
from tests.tiny import settings_with, tiny

settings = settings_with(
    data={"phantom": {"patients": 10, "test_patients": 8}},
    training={"max_slices": 3},
    privacy={"seeded_noise": True},
    federation={"clients": 3, "rounds": 4, "evaluate_every": 2},
)
BASE = settings()
ALL = ["plain", "dp", "secure", "dp+secure"]


class Quiet:
    """A watcher that remembers what began."""

    def __init__(self, on_share: Callable[[float], None] = lambda finished: None) -> None:
        self.began: list[str] = []
        self.share = on_share

    def begin(self, kind: str, text: str, size: float) -> None:
        self.began.append(kind)

    def say(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


def compared_plainly(*arguments: Any) -> dict[str, Any]:
    """What compare.json holds, as plain values."""
    plain: dict[str, Any] = json.loads(compare(*arguments).encode())
    return plain


@pytest.fixture(scope="module")
def four() -> Plan:
    return plan(BASE, ALL, [8.0], 1, baselines="none")


@pytest.fixture(scope="module")
def compared(four: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("compare") / "out"
    return folder, compared_plainly(four, folder, Quiet())


@pytest.fixture
def copied(compared: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(compared[0], tmp_path / "out"))


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("seed-*/*/run.json"))]


def typed(values: dict[str, Any]) -> RunFile:
    return msgspec.convert(values, RunFile)


# What is planned


def test_private_configurations_run_once_per_epsilon_and_the_others_once() -> None:
    found = plan(BASE, ["dp+secure", "plain", "dp"], [4, 1, 4], 2)
    assert [case.name for case in found.cases] == [
        "plain",
        "dp epsilon 1",
        "dp+secure epsilon 1",
        "dp epsilon 4",
        "dp+secure epsilon 4",
    ]
    assert found.seeds == (0, 1)
    assert found.runs == 10
    assert len({case.folder for case in found.cases}) == 5


def test_settings_of_all_cases_differ_in_nothing_but_what_must() -> None:
    base = settings(
        privacy={"placement": "distributed"},
        federation={"shared": "fusion+classifier"},
        evaluation={"baselines": True},
    )
    found = plan(base, ALL, [1.0, 8.0], 1)
    all_settings = [dotted(found.settings(c, 5).model_dump(mode="json")) for c in found.cases]
    differing = {
        key for key in all_settings[0] if len({json.dumps(each[key]) for each in all_settings}) > 1
    }
    assert differing == set(MAY_DIFFER)
    for case, each in zip(found.cases, all_settings, strict=True):
        assert Settings.model_validate_json(
            found.settings(case, 5).model_dump_json()
        ).configuration == (case.configuration)
        assert each["privacy.epsilon"] == (case.epsilon or base.privacy.epsilon)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"configurations": ["plain", "dps"]}, "no 'dps'"),
        ({"configurations": []}, "names none"),
        ({"epsilons": []}, "--epsilons names none"),
        ({"epsilons": [1.0, 0.0]}, "got 0"),
        ({"epsilons": [float("nan")]}, "got nan"),
        ({"seeds": 0}, "got 0"),
        ({"data_shares": [1.5]}, "got 1.5"),
        (
            {
                "base": BASE.model_copy(
                    update={"canaries": BASE.canaries.model_copy(update={"count": 3})}
                )
            },
            "canaries",
        ),
    ],
)
def test_an_impossible_plan_is_refused(changed: dict[str, Any], message: str) -> None:
    good = {"base": BASE, "configurations": ALL, "epsilons": [8.0], "seeds": 1}
    with pytest.raises(ConfigurationError, match=message):
        plan(**{**good, **changed})


def test_a_case_that_contradicts_the_settings_is_refused_before_any_run(tmp_path: Path) -> None:
    two = settings(federation={"clients": 2}, secure_aggregation={"enabled": False})
    with pytest.raises(ConfigurationError, match="secure does not go with") as refused:
        compare(plan(two, ["plain", "secure"], [8.0], 1), tmp_path / "out", Quiet())
    assert "--configurations" in str(refused.value.hint)
    assert not (tmp_path / "out").exists()


def test_baselines_on_real_scans_are_refused_where_any_run_is_private() -> None:
    real = Settings.model_validate({**tiny(), "data": {"manifest": "scans.csv"}})
    private = plan(real, ["plain", "dp"], [8.0], 1, baselines="all", data_shares=[0.5])
    assert private.baselines == ()
    assert private.data_shares == ()
    assert "more about real patients" in private.refused
    public = plan(real, ["plain", "secure"], [8.0], 1, baselines="plain", data_shares=[0.5])
    assert public.baselines == (None,)
    assert public.data_shares == (0.5,)
    assert not public.refused


def test_an_audit_without_recorded_messages_is_refused(tmp_path: Path) -> None:
    silent = settings(exposures={"record": False})
    with pytest.raises(ConfigurationError, match=r"exposures\.record"):
        compare(plan(silent, ["plain"], [], 1), tmp_path, Quiet(), "quick")


# Only what must differ differs


def test_all_runs_of_a_seed_have_the_same_data_model_seed_and_versions(
    compared: tuple[Path, dict[str, Any]],
) -> None:
    found = records(compared[0])
    assert [each["configuration"] for each in found] == ["dp", "dp+secure", "plain", "secure"]
    assert len({each["data"]["fingerprint"] for each in found}) == 1
    assert len({json.dumps(each["data"]["hospitals"]) for each in found}) == 1
    assert len({each["model"]["public_weights_sha256"] for each in found}) == 1
    assert {each["randomness"]["seed"] for each in found} == {0}
    require_alike(map(typed, found))


def test_the_first_messages_of_all_runs_carry_the_same_initial_weights(
    compared: tuple[Path, dict[str, Any]],
) -> None:
    """Read from what was sent, not from what the program says of itself."""
    folder, content = compared
    digests = set()
    for run in folder.glob("seed-0/*/run.json"):
        exposures = run.parent / "exposures"
        (first, *_) = (
            seen
            for seen in recording.sightings(exposures)
            if (seen.round, seen.stage, seen.direction) == (1, "work", "down")
        )
        request = messages.decode_request(recording.content(exposures, first))
        digests.add(hashlib.sha256(request.shared).hexdigest())
    (same,) = content["same_within_a_seed"]
    assert digests == {same["initial_shared_sha256"]}


def test_the_fingerprint_of_splits_tells_who_lies_where() -> None:
    data = load_data(BASE)
    (first, second, third) = data.hospitals
    swapped = copy.copy(data)
    object.__setattr__(swapped, "hospitals", [second, first, third])
    moved = copy.copy(data)
    half = type(first)(first.name, first.train[1:], [*first.test, first.train[0]])
    object.__setattr__(moved, "hospitals", [half, second, third])
    assert len({splits_fingerprint(each) for each in (data, swapped, moved)}) == 3
    assert splits_fingerprint(load_data(BASE)) == splits_fingerprint(data)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("data", "fingerprint", "0" * 64, "differ in data"),
        ("model", "public_weights_sha256", None, "differ in model"),
        ("settings", "seed", 1, "differ in seed"),
        ("settings", "training", {"learning_rate": 0.1}, "differ in training.learning_rate"),
        ("environment", "packages", {"torch": "1.0"}, "package versions"),
    ],
)
def test_runs_that_differ_in_anything_else_are_found(
    section: str, key: str, value: object, message: str, compared: tuple[Path, dict[str, Any]]
) -> None:
    first, second = copy.deepcopy(records(compared[0])[:2])
    second[section][key] = value
    with pytest.raises(RunError, match=message):
        require_alike([typed(first), typed(second)])


# What stands in the rows


def test_masks_change_no_figure_and_rows_say_what_the_summaries_say(
    compared: tuple[Path, dict[str, Any]],
) -> None:
    folder, content = compared
    rows = {row["name"]: row for row in content["configurations"]}
    assert list(rows) == ["plain", "secure", "dp epsilon 8", "dp+secure epsilon 8"]
    assert rows["plain"]["figures"] == rows["secure"]["figures"]
    for row in rows.values():
        (run,) = row["runs"]
        summary = json.loads((folder / run / "summary.json").read_text())
        names = {"auc": "auc", "accuracy": "accuracy", "recall": "sensitivity", "f1": "f1"}
        for ours, theirs in names.items():
            assert row["figures"][ours]["value"] == pytest.approx(summary[theirs], abs=1e-9)
        assert row["auc_newcombe_ci95"] == [pytest.approx(summary["auc_ci95"], abs=1e-9)]
        assert row["epsilon_spent"] == summary["epsilon"]
        assert sum(row["confusion"].values()) == 24
        assert row["cost"]["bytes_up_per_client_round"] == summary["bytes_up_per_client_round"]
    assert rows["plain"]["epsilon_spent"] is None
    # Whoever has the seed removes the noise: no epsilon, and the row says why.
    assert rows["dp epsilon 8"]["epsilon_spent"] is None
    assert [row["noise"] for row in rows.values()] == ["none", "none", "seeded", "seeded"]
    assert json.loads((folder / "compare.json").read_text()) == json.loads(json.dumps(content))
    assert content["complete"]


def test_the_convergence_round_is_the_first_from_which_the_auc_stays_near_the_final_one() -> None:
    curve = ((0, 0.50), (5, 0.895), (10, 0.88), (15, 0.893), (20, 0.90))
    assert convergence_round(curve) == 15
    assert convergence_round(curve[:1]) == 0
    assert convergence_round(()) is None
    assert convergence_round(((0, 0.9), (5, 0.7), (10, 0.9))) == 10


def test_the_interval_over_seeds_is_students() -> None:
    values = [0.80, 0.84, 0.79, 0.83]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert interval_over_seeds(values) == pytest.approx(expected)
    assert interval_over_seeds([0.8]) is None
    assert interval_over_seeds([0.99, 0.5]) == (0.0, 1.0)


# Finished runs are used again, unfinished ones continued, others left alone


def test_a_second_comparison_trains_nothing_and_finds_the_same(
    copied: Path, four: Plan, compared: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(execution, "execute", refuse)
    assert work_left(four, copied, None)["run"] == 0
    watch = Quiet()
    again = compared_plainly(four, copied, watch)
    assert set(watch.began) == {"ready"}
    assert again["configurations"] == compared[1]["configurations"]


def test_a_comparison_that_was_stopped_continues_and_repeats_no_round(tmp_path: Path) -> None:
    only = plan(BASE, ["plain", "secure"], [], 1, baselines="none")
    told: list[float] = []

    def stop(finished: float) -> None:
        told.append(finished)
        if told[-2:] == [1.0, 0.25]:  # the first round of the second run
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        compare(only, tmp_path, Quiet(stop))
    left = json.loads((tmp_path / "compare.json").read_text())
    assert not left["complete"]
    assert [row["name"] for row in left["configurations"]] == ["plain"]
    assert work_left(only, tmp_path, None) == {"run": 1, "audit": 0, "baselines": 0, "share": 0}

    content = compared_plainly(only, tmp_path, Quiet())
    assert content["complete"]
    lines = Run.open(tmp_path / "seed-0" / "secure").metrics.lines
    assert [line.round for line in lines if line.client is None] == [1, 2, 3, 4, 5]


def test_a_run_of_other_settings_is_refused_before_anything_is_trained(
    copied: Path, four: Plan
) -> None:
    other = settings(training={"batch_size": 4})
    before = sorted(copied.rglob("*"))
    with pytest.raises(RunError, match="other settings") as refused:
        compare(plan(other, ["plain"], [], 2), copied, Quiet())
    assert "--out" in str(refused.value.hint)
    assert sorted(copied.rglob("*")) == before


@pytest.mark.parametrize(
    "text", ["{}", '{"settings": {"future": 1}}', '{"settings": 3}', "[]", "{"]
)
def test_a_run_file_that_cannot_be_understood_is_refused(
    text: str, four: Plan, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError):
        runs.state_of(tmp_path, four.settings(four.cases[0], 0))


def test_a_finished_run_on_other_patients_is_refused(copied: Path, four: Plan) -> None:
    path = copied / "seed-0" / "plain" / "run.json"
    record = json.loads(path.read_text())
    record["data"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match="other patients"):
        compare(four, copied, Quiet())


def test_a_model_that_does_not_give_the_summarys_figures_is_refused(
    copied: Path, four: Plan
) -> None:
    run = copied / "seed-0"
    shutil.copy(run / "dp-epsilon-8" / "model.safetensors", run / "plain" / "model.safetensors")
    with pytest.raises(RunError, match=r"model\.safetensors: changed since the run ended"):
        compare(four, copied, Quiet())


# Baselines and shares


def test_baselines_and_shares_are_trained_once_and_read_again(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = plan(BASE, ["plain"], [], 1, baselines="plain", data_shares=[0.5])
    assert work_left(more, copied, None) == {"run": 0, "audit": 0, "baselines": 1, "share": 0.5}
    first = compared_plainly(more, copied, Quiet())
    names = [row["name"] for row in first["baselines"]]
    assert names == ["alone", "pooled", "ct only", "mri only", "late fusion"]
    assert [row["auc_is"] for row in first["baselines"]] == ["mean_auc", *["auc"] * 4]
    efficiency = first["data_efficiency"]
    assert [row["share"] for row in efficiency["shares"]] == [0.5, 1.0]
    final = first["configurations"][0]["figures"]["auc"]["value"]
    assert efficiency["shares"][1]["figures"]["auc"]["value"] == final
    assert efficiency["target"] == pytest.approx(0.95 * final)

    monkeypatch.setattr(execution, "execute", None)
    monkeypatch.setattr(runs, "alone", None)
    again = compared_plainly(more, copied, Quiet())
    assert again["baselines"] == first["baselines"]
    assert again["data_efficiency"] == efficiency


def test_damaged_or_foreign_baselines_are_refused(tmp_path: Path) -> None:
    path = runs.baselines_path(tmp_path, None)
    path.write_text("{}")
    data = load_data(BASE)
    wanted = plan(BASE, ["plain"], [], 1)
    with pytest.raises(RunError, match="is damaged") as refused:
        runs.finish_baselines(tmp_path, wanted, None, 0, data, lambda share: None)
    assert "delete it" in str(refused.value.hint)
    settings = wanted.settings(Case("plain", None), 1).model_dump(mode="json")
    foreign = {"schema": 1, "settings": settings, "data": data.fingerprint, "baselines": []}
    path.write_text(json.dumps(foreign))
    with pytest.raises(RunError, match="other settings"):
        runs.finish_baselines(tmp_path, wanted, None, 0, data, lambda share: None)


def test_a_smaller_share_is_part_of_a_larger_one_and_holds_the_same_patients_out() -> None:
    data = load_data(BASE)
    parts = [runs.on_a_share(data, share, seed=3) for share in (0.1, 0.5)]
    for whole, large, small in zip(
        data.hospitals, parts[1].hospitals, parts[0].hospitals, strict=True
    ):
        ids = [{patient.patient_id for patient in h.train} for h in (whole, large, small)]
        assert ids[2] < ids[1] < ids[0]
        assert len(ids[1]) == pytest.approx(len(ids[0]) / 2, abs=1)
        assert {patient.label for patient in small.train} == {0, 1}
        assert small.test is whole.test
    assert len({each.fingerprint for each in (data, *parts)}) == 3


# Audits


def judgement(observer: str | None, verdict: Verdict | None, value: float | None) -> Judgement:
    return Judgement(
        observer=observer,
        attack="membership",
        method="lira",
        metric="auc",
        scene="as configured",
        verdict=verdict,
        reason="because",
        value=value,
        threshold=0.6,
    )


def audit_file(verdict: Verdict, *judgements: Judgement, interrupted: bool = False) -> AuditFile:
    return AuditFile(
        run="0" * 32,
        configuration="plain",
        effort="quick",
        seed=0,
        interrupted=interrupted,
        policy=Policy(name="default", set_by="tests", confidence=0.95, sha256="a" * 64),
        verdict=verdict,
        judgements=judgements,
        findings=(),
        controls=(),
    )


def test_of_each_attack_and_observer_the_gravest_judgement_of_any_seed_stands() -> None:
    audits = {
        0: audit_file(
            Verdict.PASS,
            judgement("server", Verdict.PASS, 0.52),
            judgement("server", Verdict.PASS, 0.55),
            judgement("peer", None, None),
            judgement(None, Verdict.INCONCLUSIVE, None),
        ),
        1: audit_file(
            Verdict.FAIL,
            judgement("server", Verdict.PASS, 0.51),
            judgement("peer", Verdict.FAIL, 0.7),
        ),
    }
    summary = leakage(audits)
    assert summary.verdict is Verdict.FAIL
    server, peer = summary.observers["server"], summary.observers["peer"]
    assert (server["membership"].value, server["membership"].seed) == (0.55, 0)
    assert (peer["membership"].verdict, peer["membership"].seed) == (Verdict.FAIL, 1)
    assert summary.observers["any"]["membership"].verdict is Verdict.INCONCLUSIVE


def test_an_audit_is_made_once_per_effort_and_again_if_its_file_changed(
    copied: Path, four: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    audits: list[str] = []

    def make_audit(run: Run, effort: str, tell: Callable[[str, float], None]) -> AuditFile:
        audits.append(run.path.name)
        tell("attacking", 0.5)
        audit = audit_file(Verdict.PASS, judgement("server", Verdict.PASS, 0.5))
        audit.write(run.path)
        return audit

    monkeypatch.setattr(comparison, "make_audit", make_audit)

    def times(effort: Effort) -> int:
        before = len(audits)
        content = compare(four, copied, Quiet(), effort)
        assert {row.leakage and row.leakage.verdict for row in content.configurations} == {"PASS"}
        assert content.audit_effort == effort
        return len(audits) - before

    assert times("quick") == 4
    audit_file(Verdict.PASS).write(copied / "seed-0" / "secure")
    assert work_left(four, copied, "quick")["audit"] == 1
    assert times("quick") == 1
    assert audits[-1] == "secure"
    assert work_left(four, copied, "quick")["audit"] == 0
    assert work_left(four, copied, "default")["audit"] == 4


def test_an_audit_that_was_stopped_stops_the_comparison(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def audit(run: Run, *, effort: str, report: object) -> AuditFile:
        return audit_file(Verdict.PASS, interrupted=True)

    monkeypatch.setattr("securefed.auditing.audit.audit", audit)
    run = Run.open(copied / "seed-0" / "plain")
    with pytest.raises(KeyboardInterrupt):
        make_audit(run, "quick", lambda text, share: None)


def test_the_model_scored_again_gives_each_hospitals_own_summary(
    compared: tuple[Path, dict[str, Any]], four: Plan
) -> None:
    settings = four.settings(four.cases[0], 0)
    held_out = HeldOut(settings, load_data(settings))
    run = Run.open(compared[0] / "seed-0" / "plain")
    own = {each.name: each.auc for each in run.hospital_results}
    for name, counts in held_out.counts(run).items():
        assert metrics(counts).auc == pytest.approx(own[name], abs=1e-9)
