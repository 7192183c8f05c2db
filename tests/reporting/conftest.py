"""Run directories to report on: files as `securefed run` writes them, of one tiny made-up run.

`audited` has an audit.json written by hand, for the page's layout only: its figures were never
measured. tests/cli/test_report_command.py reports on a real run.
"""

import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from securefed.comparison.starting_report import STARTING_REPORT
from securefed.config import Configuration, Settings
from securefed.privacy.accounting import Event
from securefed.privacy.ledger import Ledger
from securefed.record import metrics
from securefed.record.comparison import (
    BaselineRow,
    CompareFile,
    ConfigurationRow,
    Cost,
    DataEfficiency,
    Figure,
    Figures,
    Leak,
    Leakage,
    ShareRow,
    StartingRow,
)
from securefed.record.metrics import ClientLine, RoundLine
from securefed.record.mismatch import Mismatch
from securefed.record.recording import Recording
from securefed.record.run_file import Data, Environment, Model, Randomness, RunFile
from securefed.record.summary import Confusion, HeldOut, HospitalSummary, Summary
from securefed.reporting.facts import Report
from securefed.reporting.integrity import inventory
from securefed.reporting.record import report_on, subject_of
from securefed.verdict import Verdict
from tests.reporting.drawn import drawn

RUN = "0123456789abcdef0123456789abcdef"
HOSPITALS = ("hospital-1", "hospital-2", "hospital-3")
STAGES = ("advertise", "share", "work", "confirm", "unmask")
SCORES: dict[str, Any] = {
    "auc": 0.9,
    "auc_ci95": (0.83, 0.95),
    "accuracy": 33 / 40,
    "sensitivity": 15 / 18,
    "specificity": 18 / 22,
    "f1": 30 / 37,
}
COUNTS = Confusion(true_positive=15, false_negative=3, false_positive=4, true_negative=18)
ROC = ((0.0, 0.0), (4 / 22, 15 / 18), (1.0, 1.0))


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def png(path: Path) -> None:
    """A grey 8x8 picture."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + b"\x80" * 8) * 8))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b""))


def make_run(folder: Path, configuration: Configuration = "dp+secure", clients: int = 3) -> Path:
    """The files of a run of `clients` hospitals and two rounds."""
    names = [f"hospital-{i + 1}" for i in range(clients)]
    dp, secure = "dp" in configuration, "secure" in configuration
    left = 40 - (40 // clients) * clients
    held_out = [40 // clients + (left if name == names[0] else 0) for name in names]
    settings = Settings.model_validate(
        {
            "privacy": {"dp": dp},
            "secure_aggregation": {"enabled": secure, "allow_two_party": clients == 2},
            "federation": {"clients": clients, "minimum_clients": clients},
            "data": {"manifest": "/srv/scans/list.csv"},
        }
    )
    folder.mkdir(parents=True)
    RunFile(
        run=RUN,
        securefed="0.1.0",
        configuration=configuration,
        settings=settings.model_dump(mode="json"),
        data=Data(
            kind="manifest",
            simulation=None,
            fingerprint="f" * 64,
            hospitals=tuple(names),
            warnings=(),
        ),
        model=Model(initialisation="public", public_weights_sha256="a" * 64, shared_parameters=9),
        randomness=Randomness(
            seed=0,
            dp_noise_and_sampling="cryptographic" if dp else "none",
            secure_aggregation="operating system" if secure else "none",
        ),
        environment=Environment(
            python="3.11", machine="x86_64", device="cpu", threads=1, packages={"torch": "2.6"}
        ),
    ).write(folder)
    spent = {name: _ledger(folder / "hospitals" / name, name) for name in names} if dp else {}
    _summary(configuration, names, spent).write(folder)
    for name, test in zip(names, held_out, strict=True):
        (folder / "hospitals" / name).mkdir(parents=True, exist_ok=True)
        HospitalSummary(
            **SCORES,
            name=name,
            training_patients=20,
            held_out_patients=test,
            local_auc=None,
            noise="cryptographic" if dp else "none",
            epsilon=spent.get(name),
        ).write(folder / "hospitals" / name)
    HeldOut(patients=40, confusion=COUNTS, roc=ROC).write(folder)
    metrics.append(folder, _metrics(names, spent))
    recording = Recording(folder / "exposures", 10**6)
    for number in (1, 2):
        for stage in STAGES if secure else ("work",):
            down = [(number, stage, name, "down", b"d" * 5) for name in names]
            up = [(number, stage, name, "up", b"u" * 100) for name in names]
            recording.add([*down, *up])  # type: ignore[list-item]
    return folder


def _ledger(folder: Path, name: str) -> float:
    folder.mkdir(parents=True)
    ledger = Ledger.create(
        folder / "ledger.sqlite",
        client=name,
        unit="patient",
        delta=1e-5,
        budget_epsilon=None,
        accountant="rdp",  # fast
    )
    for number in (1, 2):
        ledger.reserve(number, Event(2.0, 0.5, 1), run=RUN)
    return ledger.spent()


def _summary(configuration: Configuration, names: list[str], spent: dict[str, float]) -> Summary:
    return Summary(
        **SCORES,
        configuration=configuration,
        rounds=2,
        clients=len(names),
        patients=20 * len(names),
        simulation=None,
        canaries=None,
        local_auc=None,
        noise="cryptographic" if spent else "none",
        epsilon=max(spent.values()) if spent else None,
        epsilon_by_client=spent or None,
        delta=1e-5 if spent else None,
        privacy_unit="patient" if spent else None,
        accountant="rdp" if spent else None,
        bytes_up_per_client_round=500.0,
        bytes_down_per_client_round=25.0,
        client_seconds_per_round=0.1,
        aggregate_seconds_per_round=0.01,
        wall_seconds=12.5,
        survivors_by_round=(len(names), len(names)),
        rounds_aborted=0,
    )


def _metrics(names: list[str], spent: dict[str, float]) -> Iterator[RoundLine | ClientLine]:
    stages = 5
    for number in (1, 2):
        yield RoundLine(
            round=number,
            survivors=tuple(names),
            dropped={},
            aborted="",
            patients=20 * len(names),
            loss=0.7 / number,
            auc=0.5 + 0.2 * number,
            noise="cryptographic" if spent else "none",
            epsilon=max(spent.values()) if spent else None,
            bytes_up=100 * stages * len(names),
            bytes_down=5 * stages * len(names),
            wall_s=0.5,
            server_s=0.1,
        )
        for name in names:
            yield ClientLine(
                round=number,
                client=name,
                noise="cryptographic" if spent else "none",
                epsilon=spent.get(name),
                bytes_up=500,
                bytes_down=25,
            )


def made_up_audit(verdict: str = "FAIL") -> dict[str, Any]:
    """audit.json as the audit writes it, with made-up figures."""
    return {
        "schema": 1,
        "run": RUN,
        "configuration": "dp+secure",
        "effort": "quick",
        "seed": 0,
        "policy": {"name": "default", "set_by": "tests", "confidence": 0.95, "sha256": "a" * 64},
        "verdict": verdict,
        "seconds": 61.0,
        "exposures": [
            {
                "observer": "server",
                "members": [],
                "rounds": 2,
                "sees_updates": False,
                "sees_means": True,
                "missing": "",
            }
        ],
        "judgements": [
            {
                "observer": "server",
                "attack": "membership",
                "method": "lira",
                "metric": "auc",
                "scene": "as configured",
                "verdict": verdict,
                "reason": "lower limit 0.71 is over 0.6",
                "value": 0.8,
                "interval": [0.71, 0.88],
                "threshold": 0.6,
                "adjusted_p": None,
            },
            {
                "observer": "coalition",
                "attack": "inversion",
                "method": "cosine + tv",
                "metric": "identification",
                "scene": "as configured",
                "verdict": "PASS",
                "reason": "upper limit 0.06 is under 0.1",
                "value": 0.02,
                "interval": [0.0, 0.06],
                "threshold": 0.1,
                "adjusted_p": 0.4,
            },
            {
                "observer": "server",
                "attack": "epsilon",
                "method": "canaries",
                "verdict": "INCONCLUSIVE",
                "reason": "not contradicted, but power was small",
                "value": 0.4,
                "interval": [0.4, None],
                "threshold": 2.2,
                "adjusted_p": None,
            },
        ],
        "findings": [
            {
                "attack": "membership",
                "method": "lira",
                "metric": "auc",
                "observer": "server",
                "scene": "as configured",
                "value": 0.8,
                "interval": [0.71, 0.88],
                "absent": None,
            },
            {
                "attack": "head leakage",
                "method": "row ratio",
                "metric": "identification",
                "observer": "server",
                "scene": "as configured",
                "value": None,
                "interval": None,
                "absent": "N/A: the server saw no individual update",
            },
        ],
        "controls": [
            {
                "attack": "membership",
                "control": "permuted membership",
                "kind": "null",
                "metric": "auc",
                "value": 0.51,
                "interval": [0.45, 0.57],
                "gate": "interval holds 0.5",
                "met": True,
                "reason": "With membership dealt anew nothing is left to find.",
            }
        ],
        "checks": [
            {
                "name": "no parameters (plain)",
                "refused": True,
                "expected": True,
                "detail": "RunError",
            },
            {"name": "values not finite", "refused": True, "expected": True, "detail": ""},
        ],
        "epsilon": [
            {
                "observer": "server",
                "canaries": 1000,
                "guesses": 100,
                "method": "one run",
                "significance": 0.05,
                "delta": 1e-5,
                "largest_bound": 4.0,
                "correct": 60,
                "certified": 0.4,
                "one_run_bound": 0.3,
                "f_dp_bound": 0.4,
                "point_estimate": 0.9,
                "visible_epsilon": 3.1,
                "claimed_epsilon": 2.2,
                "power_halved_noise": 0.3,
            }
        ],
        "details": {"membership": {"server": {"shadows": 16}}},
        "pictures": [
            {"file": "audit/reconstruction.png", "caption": "True and reconstructed image"}
        ],
        "curves": [{"file": "audit/roc.svg", "title": "ROC, log scale"}],
    }


def add_audit(folder: Path, audit: dict[str, Any]) -> None:
    write(folder / "audit.json", audit)
    png(folder / "audit" / "reconstruction.png")
    (folder / "audit" / "roc.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40" width="40" height="40">'
        '<style>path { stroke: #b3541e; fill: none; }</style><path d="M0 40 L40 0"/></svg>'
    )


def facts_of(folder: Path, *, each_hospital: bool = False) -> Report:
    """The facts of a made-up run or comparison, whose files nobody holds against each other."""
    unchecked = defaultdict[Path, tuple[Mismatch, ...]](tuple)
    return report_on(subject_of(folder), inventory(folder), unchecked, each_hospital=each_hospital)


@pytest.fixture(scope="session")
def unaudited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("unaudited") / "run")


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("audited") / "run")
    add_audit(folder, made_up_audit())
    return folder


@pytest.fixture(scope="session")
def report(audited: Path) -> Report:
    return facts_of(audited)


@pytest.fixture(scope="session")
def html(report: Report, audited: Path) -> str:
    """The page of that report, folded."""
    return drawn(report, audited)


@pytest.fixture(scope="session")
def plain_facts(report: Report) -> dict[str, Any]:
    """What report.json holds."""
    facts: dict[str, Any] = msgspec.to_builtins(report)
    return facts


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compare directory of two runs; compare.json in the form `securefed compare` writes."""
    folder = tmp_path_factory.mktemp("compared") / "comparison"
    make_run(folder / "seed-0" / "plain", "plain")
    audited_run = make_run(folder / "seed-0" / "dp-secure-epsilon-8")
    add_audit(audited_run, made_up_audit())
    every = Figure(value=0.9, ci95_patients=(0.8, 0.95), ci95_seeds=(0.7, 1.0), by_seed=(0.9,))
    figures = Figures(**dict.fromkeys(Figures.__struct_fields__, every))
    less = msgspec.structs.replace(every, value=0.88)
    row: dict[str, Any] = {
        "epsilon_budget": None,
        "seeds": (0,),
        "held_out_patients": (12,),
        "auc_is": "auc",
        "figures": figures,
        "auc_newcombe_ci95": ((0.8, 0.95),),
        "confusion": Confusion(
            true_positive=5, false_negative=1, false_positive=2, true_negative=4
        ),
        "convergence_round": 8.0,
        "convergence_round_by_seed": (8,),
        "epsilon_spent": None,
        "cost": Cost(
            bytes_up_per_client_round=2500.0,
            bytes_down_per_client_round=1500.0,
            client_seconds_per_round=0.02,
            aggregate_seconds_per_round=0.003,
            wall_seconds=10.0,
        ),
    }
    leak = Leak(
        seed=0,
        attack="membership",
        observer="server",
        method="lira",
        metric="auc",
        verdict=Verdict.FAIL,
        reason="too high",
        value=0.8,
    )
    plain = ConfigurationRow(
        name="plain",
        configuration="plain",
        noise="none",
        runs=("seed-0/plain",),
        leakage=None,
        **row,
    )
    private = ConfigurationRow(
        name="dp+secure epsilon 8",
        configuration="dp+secure",
        noise="cryptographic",
        runs=("seed-0/dp-secure-epsilon-8",),
        leakage=Leakage(verdict=Verdict.FAIL, observers={"server": {"membership": leak}}),
        **{**row, "epsilon_spent": 7.9982},
    )
    alone = BaselineRow(
        name="alone",
        privacy="no DP",
        remark="mean over hospitals",
        **{**row, "auc_is": "mean_auc", "cost": Cost()},
    )
    shares = {0.5: msgspec.structs.replace(figures, auc=less), 1.0: figures}
    CompareFile(
        securefed="0.1.0",
        complete=True,
        settings=Settings().model_dump(mode="json"),
        seeds=(0,),
        delta=1e-5,
        privacy_unit="patient",
        accountant="rdp",
        adjacency="add/remove",
        audit_effort="quick",
        audited={},
        same_within_a_seed=(),
        configurations=(plain, private),
        baselines=(alone,),
        baselines_refused=None,
        data_efficiency=DataEfficiency(
            configuration="plain",
            shares=tuple(
                ShareRow(share=share, seeds=(0,), figures=each) for share, each in shares.items()
            ),
            target=0.855,
            smallest_tried_share_that_reaches_it=0.5,
        ),
        starting_report=msgspec.structs.replace(
            STARTING_REPORT,
            note="another data set",
            rows=(StartingRow(name="fusion", accuracy=0.81, auc=0.82),),
        ),
        notes=(),
    ).write(folder)
    return folder
