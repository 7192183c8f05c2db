"""Runs with canaries through `securefed audit` as it is typed: an honest one and broken ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.training import canaries
from tests.sabotage import Fault, drawn_twice_as_often, honest, noise_times, run_with

CANARIES: dict[str, Any] = {
    "canaries": {"count": 350},
    "federation": {"rounds": 40},
    "privacy": {"epsilon": 4.0},
}


# Over coins of its own a run with half its noise would be missed by guesses one time in six, by the
# pair one time in fifty and by the noise never.
def fixed_coins(hospital: str, count: int, parameters: int) -> canaries.CanarySecret:
    coins = np.random.default_rng(9).random(count) < 0.5
    return canaries.CanarySecret(hospital, parameters, "7" * 32, coins)


def audited(path: Path, fault: Fault, *options: str) -> tuple[Result, dict[str, Any]]:
    """A run with that fault in it, made in the path, and what the command says of it."""

    def with_coins(patch: pytest.MonkeyPatch) -> None:
        fault(patch)
        patch.setattr(canaries, "draw", fixed_coins)  # so that a test is no matter of chance

    run_with(with_coins, path, **CANARIES)
    result = CliRunner().invoke(cli, ["audit", str(path), "--quick", *options])
    return result, json.loads((path / "audit.json").read_text())


def verdicts(file: dict[str, Any], attack: str) -> dict[str, set[str | None]]:
    """Method -> its verdicts, by whichever observer."""
    found: dict[str, set[str | None]] = {}
    for line in file["judgements"]:
        if line["attack"] == attack:
            found.setdefault(line["method"], set()).add(line["verdict"])
    return found


@pytest.mark.slow
def test_an_honest_run_passes_as_far_as_epsilon_goes_and_says_what_it_does(tmp_path: Path) -> None:
    result, file = audited(tmp_path / "run", honest, "--attack", "epsilon")
    assert result.exit_code == 0, result.output
    assert file["verdict"] == "PASS"
    methods = verdicts(file, "epsilon")
    assert "PASS" in methods["gaussian pair"]
    assert "PASS" in methods["noise"]
    assert "INCONCLUSIVE" not in set().union(*methods.values())
    # Without a terminal there is a line for each stage.
    stages = [line[5:] for line in result.stderr.splitlines() if line[:4].endswith("%")]
    assert stages[:2] == ["reading the run", "holding the files of the run against each other"]
    assert {"epsilon: controls", "epsilon: server", "epsilon: outsider"} <= set(stages)
    assert len(stages) == len(set(stages))


@pytest.mark.parametrize(
    ("fault", "by"),
    [
        (noise_times(0.5), {"canaries", "gaussian pair", "noise"}),
        pytest.param(noise_times(0.0), {"gaussian pair", "noise"}, marks=pytest.mark.slow),
    ],
    ids=["half the noise", "no noise"],
)
def test_a_broken_run_fails_by_every_bound(tmp_path: Path, fault: Fault, by: set[str]) -> None:
    result, file = audited(tmp_path / "run", fault, "--attack", "epsilon")
    assert isinstance(result.exception, Exception)
    assert "is not met" in str(result.exception)
    assert file["verdict"] == "FAIL"
    methods = verdicts(file, "epsilon")
    assert by <= {method for method, each in methods.items() if "FAIL" in each}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "fails"),
    [(honest, False), (noise_times(0.5), True), (drawn_twice_as_often, True)],
    ids=["honest", "half the noise", "drawn twice as often"],
)
def test_a_whole_audit_tells_an_honest_run_from_a_broken_one(
    tmp_path: Path, fault: Fault, fails: bool
) -> None:
    _, file = audited(tmp_path / "run", fault)
    failed = {line["attack"] for line in file["judgements"] if line["verdict"] == "FAIL"}
    assert (file["verdict"] == "FAIL") == fails
    assert bool(failed & {"epsilon", "direct tests"}) == fails
    assert all(control["met"] for control in file["controls"])
