"""Each file of a run directory is read as what was written, and refused by name if damaged."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from securefed.errors import RunError
from securefed.record import metrics
from securefed.record.audit import (
    AuditFile,
    Check,
    Control,
    Curve,
    EpsilonTest,
    Exposed,
    Finding,
    Judgement,
    Picture,
    Policy,
)
from securefed.record.baselines import Baselines
from securefed.record.check_point import CheckPoint
from securefed.record.metrics import ClientLine, RoundLine
from securefed.record.run_file import Data, Environment, Model, Randomness, RunFile
from securefed.record.summary import Confusion, HeldOut, HospitalSummary, Summary
from securefed.verdict import Verdict

RUN = RunFile(
    run="0" * 32,
    securefed="0.1.0",
    configuration="dp+secure",
    settings={"seed": 0, "privacy": {"epsilon": 8.0}},
    data=Data(
        kind="phantom",
        simulation="phantom",
        fingerprint="f" * 64,
        hospitals=("north",),
        warnings=("synthetic",),
    ),
    model=Model(initialisation="public", public_weights_sha256=None, shared_parameters=9),
    randomness=Randomness(
        seed=0, dp_noise_and_sampling="cryptographic", secure_aggregation="operating system"
    ),
    environment=Environment(
        python="3.11", machine="x86_64", device="cpu", threads=2, packages={"torch": "2.6"}
    ),
)
SCORES: dict[str, Any] = {
    "auc": 0.9,
    "auc_ci95": (0.8, 0.95),
    "accuracy": 0.5,
    "sensitivity": None,
    "specificity": 1.0,
    "f1": 0.5,
}
SUMMARY = Summary(
    **SCORES,
    configuration="dp+secure",
    rounds=2,
    clients=1,
    patients=10,
    simulation="phantom",
    canaries=None,
    local_auc=None,
    noise="cryptographic",
    epsilon=7.9991,
    epsilon_by_client={"north": 7.9991},
    delta=1e-5,
    privacy_unit="patient",
    accountant="prv",
    bytes_up_per_client_round=10.0,
    bytes_down_per_client_round=10.0,
    client_seconds_per_round=0.1,
    aggregate_seconds_per_round=0.1,
    wall_seconds=3.0,
    survivors_by_round=(1, 0),
    rounds_aborted=1,
)
HOSPITAL = HospitalSummary(
    **SCORES,
    name="north",
    training_patients=10,
    held_out_patients=4,
    local_auc=0.7,
    noise="cryptographic",
    epsilon=1.0,
)
HELD_OUT = HeldOut(
    patients=4,
    confusion=Confusion(true_positive=1, false_negative=1, false_positive=1, true_negative=1),
    roc=((0.0, 0.0), (1.0, 1.0)),
)
AUDIT = AuditFile(
    run="0" * 32,
    configuration="dp+secure",
    effort="quick",
    seed=0,
    policy=Policy(name="default", set_by="tests", confidence=0.95, sha256="a" * 64),
    verdict=Verdict.FAIL,
    exposures=(
        Exposed(
            observer="peer",
            members=("north",),
            rounds=2,
            sees_updates=False,
            sees_means=True,
            missing="",
        ),
    ),
    judgements=(
        Judgement(
            attack="membership",
            observer="peer",
            method="lira",
            metric="auc",
            scene="worst case",
            verdict=Verdict.FAIL,
            reason="too high",
            value=0.8,
            interval=(0.7, None),
        ),
        Judgement(attack="inversion", observer=None, verdict=None, reason="not attacked"),
    ),
    findings=(
        Finding(
            attack="membership",
            method="lira",
            metric="auc",
            observer="peer",
            scene="worst case",
            value=None,
            interval=None,
            absent="too few patients",
        ),
    ),
    controls=(
        Control(
            attack="membership",
            control="permuted",
            kind="null",
            metric="auc",
            value=0.5,
            interval=(0.4, 0.6),
            gate="interval holds 0.5",
            met=True,
            reason="nothing to find",
        ),
    ),
    epsilon=(
        EpsilonTest(
            observer="peer",
            canaries=10,
            guesses=5,
            method="one run",
            significance=0.05,
            delta=1e-5,
            correct=4,
            certified=0.1,
            one_run_bound=0.1,
            f_dp_bound=None,
            point_estimate=None,
            visible_epsilon=None,
            largest_bound=2.0,
            claimed_epsilon=8.0,
            power_halved_noise=0.4,
        ),
    ),
    checks=(Check(name="changed shape", refused=True, expected=True, detail="ShapeError"),),
    details={"membership": {"peer": {"shadows": 8}}},
    pictures=(Picture(file="audit/1.png", caption="true and reconstructed"),),
    curves=(Curve(file="audit/roc.svg", title="ROC"),),
    seconds=1.0,
)
AUDIT = msgspec.structs.replace(AUDIT, sha256=AUDIT.digest)
FILES = [
    RUN,
    SUMMARY,
    HOSPITAL,
    HELD_OUT,
    AUDIT,
    CheckPoint(round=3, elapsed_s=1.5),
    Baselines(local={"north": 0.5, "south": None}, one_modality={"ct": None, "mri": 0.6}),
]
names = pytest.mark.parametrize("value", FILES, ids=lambda value: type(value).__name__)


@names
def test_what_was_written_is_read(value: Any, tmp_path: Path) -> None:
    value.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [value.NAME]
    assert type(value).read(tmp_path) == value


@names
def test_a_file_begins_with_its_keys_in_plain_json(value: Any, tmp_path: Path) -> None:
    value.write(tmp_path)
    plain = json.loads((tmp_path / value.NAME).read_text())
    assert plain["schema"] == 1
    assert set(plain) == set(value.__struct_fields__)


@names
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff", b'"text"'])
def test_a_damaged_file_is_refused_by_name(value: Any, content: bytes, tmp_path: Path) -> None:
    (tmp_path / value.NAME).write_bytes(content)
    with pytest.raises(RunError, match=rf"{value.NAME} is damaged"):
        type(value).read(tmp_path)


@names
def test_a_missing_file_is_refused_by_name(value: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"cannot read .*{value.NAME}"):
        type(value).read(tmp_path)


@names
def test_keys_of_later_versions_are_left_out(value: Any, tmp_path: Path) -> None:
    plain = json.loads(value.encode())
    (tmp_path / value.NAME).write_text(json.dumps({**plain, "something_new": {"a": 1}}))
    assert type(value).read(tmp_path) == value


@names
def test_another_schema_is_refused_with_both_numbers(value: Any, tmp_path: Path) -> None:
    plain = json.loads(value.encode())
    (tmp_path / value.NAME).write_text(json.dumps({**plain, "schema": 2}))
    with pytest.raises(RunError, match=r"has schema 2, this version reads 1"):
        type(value).read(tmp_path)


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", "..", ""])
def test_a_hospitals_name_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    plain = json.loads(RUN.encode())
    plain["data"]["hospitals"] = [name]
    (tmp_path / "run.json").write_text(json.dumps(plain))
    with pytest.raises(RunError, match="names a hospital"):
        RunFile.read(tmp_path)


def test_an_unknown_verdict_is_no_verdict(tmp_path: Path) -> None:
    plain = json.loads(AUDIT.encode())
    (tmp_path / "audit.json").write_text(json.dumps({**plain, "verdict": "COMPLIANT"}))
    with pytest.raises(RunError, match="COMPLIANT"):
        AuditFile.read(tmp_path)


def test_an_audit_names_the_families_that_it_speaks_of() -> None:
    assert AUDIT.families == ("membership", "inversion")


def test_the_mean_of_models_trained_alone_is_over_those_that_have_an_auc() -> None:
    assert Baselines(local={"a": 0.5, "b": None}, one_modality={}).mean_local == 0.5
    assert Baselines(local={"b": None}, one_modality={}).mean_local is None


# metrics.jsonl


def round_line(number: int, **changes: Any) -> RoundLine:
    line = RoundLine(
        round=number,
        survivors=("north",),
        dropped={"south": "timeout"},
        aborted="",
        patients=10,
        loss=0.5,
        auc=0.8,
        noise="cryptographic",
        epsilon=1.0,
        bytes_up=10,
        bytes_down=20,
        wall_s=0.1,
        server_s=0.01,
    )
    return msgspec.structs.replace(line, **changes)


CLIENT = ClientLine(
    round=1,
    client="north",
    noise="cryptographic",
    epsilon=1.0,
    bytes_up=10,
    bytes_down=20,
)


def test_lines_of_rounds_and_clients_are_told_apart(tmp_path: Path) -> None:
    metrics.append(tmp_path, [round_line(1), CLIENT])
    metrics.append(tmp_path, [round_line(2)])
    read = metrics.read(tmp_path)
    assert read.lines == (round_line(1), CLIENT, round_line(2))
    assert read.rounds == (round_line(1), round_line(2))
    assert read.clients == (CLIENT,)
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert first["client"] is None


def test_a_repeated_round_counts_as_it_went_the_last_time(tmp_path: Path) -> None:
    metrics.append(tmp_path, [round_line(1, auc=0.1), round_line(2), round_line(1, auc=0.9)])
    assert [line.auc for line in metrics.read(tmp_path).rounds] == [0.9, 0.8]


def test_the_curve_is_of_the_parameters_that_a_round_started_from(tmp_path: Path) -> None:
    metrics.append(tmp_path, [round_line(1), round_line(2, auc=None), round_line(3, auc=0.9)])
    assert metrics.read(tmp_path).curve == ((0, 0.8), (2, 0.9))


def test_before_the_first_round_there_are_no_lines(tmp_path: Path) -> None:
    assert metrics.read(tmp_path).lines == ()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"round": 1, "client": null}', '"x"'])
def test_a_damaged_line_is_refused_by_its_number(content: str, tmp_path: Path) -> None:
    metrics.append(tmp_path, [round_line(1)])
    with (tmp_path / "metrics.jsonl").open("a") as out:
        out.write(content + "\n")
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2 is damaged"):
        metrics.read(tmp_path)


def test_a_part_that_passes_leaves_the_run_open() -> None:
    passed = msgspec.structs.replace(AUDIT, verdict=Verdict.PASS)
    assert passed.of_the_run is Verdict.PASS
    part = msgspec.structs.replace(passed, asked=("direct tests",))
    assert part.of_the_run is Verdict.INCONCLUSIVE
    assert msgspec.structs.replace(part, verdict=Verdict.FAIL).of_the_run is Verdict.FAIL


@pytest.mark.parametrize("torn", [b'{"round": 3, "cli', b"x" * 200_000])
def test_a_line_that_a_crash_cut_short_counts_as_not_written(tmp_path: Path, torn: bytes) -> None:
    metrics.append(tmp_path, [round_line(1)])
    with (tmp_path / "metrics.jsonl").open("ab") as out:
        out.write(torn)
    assert metrics.read(tmp_path).rounds == (round_line(1),)
    metrics.append(tmp_path, [round_line(2)])
    assert metrics.read(tmp_path).rounds == (round_line(1), round_line(2))
