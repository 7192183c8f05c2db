"""A run in one process is n hospitals' folders and a server's: the same files of the same types."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from securefed.run_directory import Run
from tests.engine.four_sites import NAMES, Four, patients_of

# What one way has and the other has not, and why.
ONLY_AT_THE_SERVER = {
    "agreement.yaml": "what a run among machines is of",
    "memberships.jsonl": "hospitals come and go, and each time is a job",
    "anchors.jsonl": "how far each hospital's ledger had come, as it signed when it came and went",
}
ONLY_AT_A_SITE = {
    "agreement.yaml": "what a run among machines is of",
    "run.json": "in one process there is one for all",
    "model.safetensors": "in one process there is one for all",
    "model-card.json": "the same",
    "model-card.md": "the same",
    "exposures/index.jsonl": "in one process one recording serves all",
    "exposures/messages.bin": "the same",
    "exposures/jobs.jsonl": "the same",
}
ONLY_IN_ONE_PROCESS = {
    "inventory.json": "written when nobody writes any more; a party's folder lives on",
    "progress.svg": "drawn for who runs it",
}
ONLY_IN_A_HOSPITAL_THERE = {
    "ledger.sqlite": "a site's is of all its runs, and lies above them",
    "times.jsonl": "taken between rounds by who plays all hospitals",
}


@pytest.fixture(scope="module")
def alone(played: Four, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run of the same patients in one process."""
    from securefed.simulation.execution import execute

    job = played.agreement.job(1, {"exposures": {"record": True}})
    path = tmp_path_factory.mktemp("alone") / "run"
    execute(job.settings, path, data=patients_of(played))
    return path


def files(folder: Path, *, but_for: str = "-") -> set[str]:
    """Files below a folder, the round of a check point left out."""
    places = (each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file())
    return {re.sub(r"-\d+\.", "-N.", place) for place in places if not place.startswith(but_for)}


def test_the_top_of_a_run_is_a_servers_folder(played: Four, alone: Path) -> None:
    here, there = files(alone, but_for="hospitals/"), files(played.server)
    assert here - there == ONLY_IN_ONE_PROCESS.keys()
    assert there - here == ONLY_AT_THE_SERVER.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_hospitals_folder_is_a_sites_of_that_run(played: Four, alone: Path, name: str) -> None:
    here, there = files(alone / "hospitals" / name), files(played.run_of(name))
    assert here - there == ONLY_IN_A_HOSPITAL_THERE.keys()
    assert there - here == ONLY_AT_A_SITE.keys()


def shapes(path: Path) -> dict[str, set[str]]:
    """Of a JSON file, or one of lines: key -> the types that its values have, but for null."""
    found: dict[str, set[str]] = {}
    text = path.read_text()
    for line in text.splitlines() if path.suffix == ".jsonl" else [text]:
        for key, value in json.loads(line).items():
            found.setdefault(key, set()).update({type(value).__name__} - {"NoneType"})
    return found


def test_files_of_one_name_are_of_one_type(played: Four, alone: Path) -> None:
    pairs = [(alone, played.server)]
    pairs += [(alone / "hospitals" / name, played.run_of(name)) for name in NAMES]
    compared = 0
    for here, there in pairs:
        for path in sorted(here.rglob("*.json*")):
            other = there / path.relative_to(here)
            if not other.is_file():
                continue
            compared += 1
            one, two = shapes(path), shapes(other)
            assert one.keys() == two.keys(), path
            for key, types in one.items():
                assert not (types and two[key]) or types == two[key], (path, key)
    assert compared > 20


def test_both_say_the_same_of_the_same_run(played: Four, alone: Path) -> None:
    one, two = Run.open(alone), Run.open(played.server)
    for here, there in zip(one.metrics.rounds, two.metrics.rounds, strict=True):
        for name in (
            "round",
            "survivors",
            "dropped",
            "aborted",
            "patients",
            "loss",
            "auc",
            "noise",
        ):
            assert getattr(here, name) == getattr(there, name)
    assert one.held_out == two.held_out
    assert one.summary.auc == two.summary.auc
    assert (one.party, two.party) == ("everybody", "server")
    assert (one.here, two.here) == (NAMES, ())
    for name in NAMES:
        kept = "contributions/messages.bin"
        own, site = alone / "hospitals" / name, played.run_of(name)
        assert (own / kept).read_bytes() == (site / kept).read_bytes()
        assert Run.open(site).hospital_results == (one.hospital_results[NAMES.index(name)],)


# What is allowed to say "patient" in a server's folder: settings, and totals that were opened.
SETTINGS = {"patients_epsilon", "max_patients", "smallest_training_set"}
TOTALS = {"metrics.jsonl", "held_out.json", "model-card.json"}


def numbers(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield name, part
            yield from numbers(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from numbers(part, key)


def test_a_servers_folder_has_no_number_of_any_hospitals_patients_and_no_fingerprint(
    played: Four,
) -> None:
    read = 0
    for path in played.server.rglob("*"):
        if path.suffix == ".yaml":
            values = [yaml.safe_load(path.read_text())]
        elif path.suffix in (".json", ".jsonl"):
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            values = [json.loads(line) for line in lines]
        else:
            continue
        for value in values:
            for key, found in numbers(value):
                if found is None or isinstance(found, (dict, list, str)):
                    continue
                read += 1
                assert "fingerprint" not in key
                if "patient" in key or "training_set" in key or "records" in key:
                    assert key in SETTINGS or path.name in TOTALS, (path, key)
    assert read > 50
    everybody = sum(len(each.train) for each in patients_of(played).hospitals)
    trained = {line.patients for line in Run.open(played.server).metrics.rounds if line.patients}
    assert trained == {everybody}
    assert Run.open(played.server).about.data.fingerprint is None
    assert Run.open(played.server).summary.patients is None
