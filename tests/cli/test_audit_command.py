"""`securefed audit` on real runs of every configuration: what it writes, shows and refuses."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from attacks.inversion import family as inversion
from securefed.auditing import audit as auditing
from securefed.cli.audit import advise, show
from securefed.cli.screen import screen
from securefed.config import Settings
from securefed.errors import ConfigurationError, RunError
from securefed.exposure import OBSERVERS
from securefed.record.audit import AuditFile
from securefed.run_directory import Run
from securefed.simulation.execution import execute
from tests.tiny import changed, tiny

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATIONS = ("plain", "dp", "secure", "dp+secure")
# 56 held-out patients a hospital: a target needs 50 decoys.
TINY = tiny(
    data={
        "phantom": {"patients": 12, "test_patients": 56, "missing_query": 0, "missing_context": 0}
    },
    training={"batch_size": 6, "max_slices": 1},
    federation={"clients": 3, "rounds": 2},
    canaries={"count": 100},
    seed=5,
)
Audited = Callable[[str], dict[str, Any]]


def audit_of(path: Path, **options: Any) -> dict[str, Any]:
    """An audit of a run, as audit.json holds it."""
    content: dict[str, Any] = json.loads(auditing.audit(Run.open(path), **options).encode())
    return content


def made(path: Path, name: str, **changes: Any) -> Path:
    """A finished run of that configuration."""
    kind = {"privacy": {"dp": "dp" in name}, "secure_aggregation": {"enabled": "secure" in name}}
    execute(Settings.model_validate(changed(TINY, **kind) | changes), path)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    for name in CONFIGURATIONS:
        made(folder / name, name)
    return folder


@pytest.fixture(scope="module")
def audited(runs: Path) -> Audited:
    """What the fast families say of a configuration; made once."""
    known: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        if name not in known:
            known[name] = audit_of(
                runs / name, effort="quick", attacks=("head leakage", "epsilon", "malicious server")
            )
        return known[name]

    return of


@pytest.mark.parametrize(
    ("verdict", "effort", "commands"),
    [
        ("INCONCLUSIVE", "quick", ["audit 'my run'", "report 'my run'"]),
        ("INCONCLUSIVE", "default", ["audit 'my run' --thorough", "report 'my run'"]),
        ("INCONCLUSIVE", "thorough", ["report 'my run'"]),
        ("PASS", "quick", ["report 'my run'"]),
    ],
)
def test_what_is_open_names_the_audit_that_may_close_it(
    audited: Audited,
    verdict: str,
    effort: str,
    commands: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = msgspec.convert({**audited("plain"), "verdict": verdict, "effort": effort}, AuditFile)
    advise(file, Path("my run"), screen())
    assert capsys.readouterr().err == "".join(f"next: securefed {each}\n" for each in commands)


def finding(audit: dict[str, Any], observer: str, scene: str, method: str = "row ratio"):
    return next(
        line
        for line in audit["findings"]
        if (line["observer"], line["scene"], line["method"]) == (observer, scene, method)
    )


# --- what it finds, by configuration ------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration_is_audited_and_written(runs: Path, audited: Audited, name: str):
    audit = audited(name)
    assert audit["configuration"] == name
    assert json.loads((runs / name / "audit.json").read_text()) == audit
    assert [line["observer"] for line in audit["exposures"]] == list(OBSERVERS)
    assert audit["controls"]
    assert all(control["met"] for control in audit["controls"])
    assert audit["verdict"] in ("PASS", "INCONCLUSIVE")
    for drawn in (*audit["pictures"], *audit["curves"]):
        assert (runs / name / drawn["file"]).stat().st_size > 1000


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_server_is_attacked_with_what_it_saw(audited: Audited, name: str):
    audit = audited(name)
    server, _, coalition, outsider = audit["exposures"]
    seen = audit["details"]["head leakage"]["server"]["as configured"]["attacked"]
    assert server["sees_updates"] == ("secure" not in name)
    assert seen == ("mean of the updates" if "secure" in name else "updates")
    assert coalition["sees_updates"]
    assert not outsider["sees_means"]
    nothing = finding(audit, "outsider", "as configured")
    assert (nothing["value"], nothing["applies"]) == (None, False)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_peer_attacks_what_is_left_without_its_own_part(audited: Audited, name: str):
    line = finding(audited(name), "peer", "as configured")
    assert line["value"] is not None, line["absent"]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_worst_case_is_tried_once_by_whoever_is_nearest_to_an_update(
    audited: Audited, name: str
):
    nearest = "coalition" if "secure" in name else "server"
    worst = [line for line in audited(name)["findings"] if line["scene"] == "worst case"]
    assert {line["observer"] for line in worst} == {nearest}
    alone = finding(audited(name), nearest, "worst case", "row ratio, batch 1")
    # In the clear one patient's feature is the ratio itself; the noise of epsilon 8 hides it.
    assert (alone["value"] > 0.9) == ("dp" not in name)


@pytest.mark.parametrize("name", ["plain", "dp"])
def test_a_coalition_that_sees_no_more_than_the_server_says_so(audited: Audited, name: str):
    line = finding(audited(name), "coalition", "as configured")
    assert not line["applies"]
    assert "the server alone sees every update" in line["absent"]


def test_a_claimed_epsilon_is_tested_and_none_is_invented(audited: Audited):
    claimed = {
        name: {line["claimed_epsilon"] for line in audited(name)["epsilon"]}
        for name in CONFIGURATIONS
    }
    assert claimed["plain"] == claimed["secure"] == {None}
    (epsilon,) = claimed["dp"]
    assert 0 < epsilon <= 8
    assert all(line["certified"] <= epsilon for line in audited("dp")["epsilon"])


def test_a_client_refuses_what_a_malicious_server_tries(audited: Audited):
    checks = audited("dp+secure")["checks"]
    assert len([check for check in checks if check["expected"]]) >= 20
    assert all(check["refused"] for check in checks if check["expected"])


def test_the_same_run_and_effort_give_the_same_findings(runs: Path, audited: Audited):
    again = audit_of(
        runs / "dp+secure",
        effort="quick",
        observers=("server", "coalition"),
        attacks=("head leakage",),
    )
    first = [
        line
        for line in audited("dp+secure")["findings"]
        if line["attack"] == "head leakage" and line["observer"] in ("server", "coalition")
    ]
    assert [line for line in again["findings"] if line["attack"] == "head leakage"] == first


def test_the_page_names_every_key_of_audit_json(audited: Audited):
    page = (ROOT / "docs" / "run-directory.md").read_text()
    section = page[page.index("## audit.json") : page.index("## Models")]
    audit = audited("dp+secure")
    keys = set(audit) | set(audit["policy"])
    for name in ("exposures", "judgements", "findings", "controls", "epsilon", "checks"):
        keys |= set(audit[name][0])
    keys |= {key for name in ("pictures", "curves") for key in audit[name][0]}
    assert {key for key in keys if f"`{key}`" not in section} == set()


# --- all of it, as typed ------------------------------------------------------------------------


def typed(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", "securefed.cli.app", "audit", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment
    )


@pytest.mark.slow
def test_a_whole_audit_as_typed_with_a_policy_that_judges_the_worst_case(runs: Path):
    done = typed(
        runs / "plain", "--quick", "--policy", ROOT / "configs/policies/strict.yaml", "--json"
    )
    assert done.returncode == 3, done.stderr
    assert "policy strict is not met" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    audit = json.loads(done.stdout)
    assert audit["verdict"] == "FAIL"
    attacked = {line["attack"] for line in audit["findings"] if line["value"] is not None}
    families = {"head leakage", "epsilon", "inversion", "membership", "source inference"}
    assert attacked == families | {"property inference"}
    assert {control["attack"] for control in audit["controls"]} == attacked
    assert all(control["met"] for control in audit["controls"])
    failed = {line["attack"] for line in audit["judgements"] if line["verdict"] == "FAIL"}
    assert "head leakage" in failed
    titles = " ".join(curve["title"] for curve in audit["curves"])
    assert "Membership inference, outsider" in titles
    assert any("inversion" in picture["caption"] for picture in audit["pictures"])


def test_what_it_shows_fits_a_terminal_and_names_the_verdict(audited: Audited):
    for name in CONFIGURATIONS:
        console = Console(width=80, record=True, file=io.StringIO())
        show(msgspec.convert(audited(name), AuditFile), console)
        text = console.export_text()
        assert f"{name} run, quick audit" in text
        assert "worst case" in text
        refused, asked = re.search(r"(\d+) of (\d+) refused", text).groups()  # type: ignore[union-attr]
        assert refused == asked
        assert int(asked) >= 27
        assert audited(name)["verdict"] in text.splitlines()[-2] + text.splitlines()[-1]
        assert "…" not in text


# --- stopped ------------------------------------------------------------------------------------


def test_ctrl_c_keeps_what_was_finished(runs: Path, tmp_path: Path, monkeypatch):
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)  # the signal may arrive a little later, but not this much

    monkeypatch.setattr(inversion, "controls", interrupted)
    audit = audit_of(
        runs / "secure",
        effort="quick",
        observers=("server",),
        attacks=("head leakage", "inversion", "malicious server"),
    )
    assert audit["interrupted"]
    assert finding(audit, "server", "as configured")["value"] is not None
    assert {line["attack"] for line in audit["findings"]} == {"head leakage"}
    assert audit["checks"] == []
    missing = [line for line in audit["judgements"] if line["attack"] == "inversion"]
    assert {(line["verdict"], line["reason"]) for line in missing} == {
        ("INCONCLUSIVE", "not attacked")
    }
    assert json.loads((runs / "secure" / "audit.json").read_text()) == audit


# --- refused ------------------------------------------------------------------------------------


def test_no_run_a_policy_that_is_none_and_patients_that_changed_are_refused(
    runs: Path, tmp_path: Path
):
    with pytest.raises(RunError, match="nowhere"):
        audit_of(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=r"cannot read .*none\.yaml"):
        audit_of(runs / "plain", policy=tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"effort": "lazy"}, "no effort 'lazy'"),
        ({"observers": ("neighbour",)}, "no observer 'neighbour'"),
        ({"observers": ()}, "at least one observer"),
        ({"attacks": ("astrology",)}, "no attack 'astrology'"),
    ],
)
def test_what_no_audit_can_do_is_refused_with_what_it_can(
    runs: Path, asked: dict[str, Any], message: str
):
    with pytest.raises(ConfigurationError, match=message) as refused:
        audit_of(runs / "plain", **asked)
    assert "choose of: " in str(refused.value.hint)


def test_a_run_that_recorded_nothing_cannot_be_audited(tmp_path: Path):
    run = made(tmp_path / "silent", "secure", exposures={"record": False}, canaries={"count": 0})
    with pytest.raises(RunError, match="record"):
        audit_of(run)


def test_contradicting_options_are_refused_in_one_line(runs: Path):
    done = typed(runs / "plain", "--quick", "--thorough")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "securefed: --quick and --thorough contradict each other",
        "hint: give one of them, or neither",
    ]
