"""The direction of imports: who may know whom. docs/architecture.md draws it."""

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny

ROOT = Path(__file__).resolve().parents[1]


def imports(source: str) -> set[str]:
    """Dotted names that a module imports, wherever in the file; `from a import b` gives a.b too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                found.add("." * node.level)
                continue
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            constants = (arg.value for arg in node.args if isinstance(arg, ast.Constant))
            found |= {value for value in constants if isinstance(value, str)}
    return found


def modules(folder: str) -> list[Path]:
    """Python files below a folder of the repository."""
    return sorted((ROOT / folder).rglob("*.py"))


def crossing(folder: str, forbidden: str, *, but_for: str = "-") -> Iterator[str]:
    """Imports of `forbidden` in a folder, as "file: name"."""
    for path in modules(folder):
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(but_for):
            continue
        for name in sorted(imports(path.read_text())):
            if name == forbidden or name.startswith(f"{forbidden}."):
                yield f"{place}: {name}"


def rooms() -> dict[str, set[str]]:
    """Room -> the rooms it imports: the folders of securefed, its single files, and attacks."""
    found: dict[str, set[str]] = {}
    for path in [*modules("securefed"), *modules("attacks"), *modules("protocols")]:
        place = path.relative_to(ROOT).with_suffix("").parts
        room = _room(".".join(place).removesuffix(".__init__"))
        names = {_room(name) for name in imports(path.read_text())}
        found.setdefault(room, set()).update(names - {room, "", "securefed"})
    return found


def _room(module: str) -> str:
    package, *rest = module.split(".")
    if package == "securefed":
        return f"securefed.{rest[0]}" if rest else package
    return package if package in ("attacks", "protocols") else ""


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import torch.nn as nn", "torch.nn"),
        ("def f():\n    from securefed import data", "securefed.data"),
        ("from securefed.data import load", "securefed.data.load"),
        ("importlib.import_module('attacks.suite')", "attacks.suite"),
        ("from . import x", "."),
    ],
)
def test_the_reader_of_imports_finds_every_form(source: str, name: str) -> None:
    assert name in imports(source)


@pytest.mark.parametrize("folder", ["protocols", "securefed", "attacks"])
def test_every_layer_has_modules_and_imports_absolutely(folder: str) -> None:
    files = modules(folder)
    assert files
    assert not [path for path in files if any(n.startswith(".") for n in imports(path.read_text()))]


@pytest.mark.parametrize("forbidden", ["torch", "securefed", "attacks", "opacus", "pydantic"])
def test_protocols_stands_alone(forbidden: str) -> None:
    assert not list(crossing("protocols", forbidden))


# room -> what it must not know. This is the threat model as imports (docs/architecture.md).
FORBIDDEN = {
    # The server sees bytes: no patient, no training, no hospital's budget.
    "securefed/server": ["data", "training", "hospital", "simulation", "privacy.ledger"],
    # A hospital obeys rules of its own, whatever the server's code does.
    "securefed/hospital": ["server", "simulation", "playback", "auditing"],
    # Whether files agree is told from files, never from the program that wrote them.
    "securefed/evidence": ["hospital", "simulation", "auditing", "reporting"],
    # What travels is known to both sides, and knows neither.
    "securefed/wire": ["data", "training", "hospital", "server", "simulation", "record"],
    # What an observer saw follows from messages, never from a hospital's program.
    "securefed/playback": ["data", "training", "hospital", "simulation"],
    "securefed/record": ["training", "hospital", "server", "simulation", "playback"],
    "securefed/data": ["model", "training", "hospital", "server", "simulation"],
    "securefed/model": ["training", "wire", "hospital", "server", "simulation"],
    "securefed/privacy": ["data", "model", "training", "hospital", "server", "simulation"],
    "securefed/training": ["hospital", "server", "simulation", "record"],
}
# The only rooms that may know hospital and server.
BOTH_PARTIES = ("securefed/simulation/", "securefed/engine/flare/")


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [(room, f"securefed.{each}") for room, all_of in FORBIDDEN.items() for each in all_of],
)
def test_a_room_does_not_know_what_its_party_may_not(room: str, forbidden: str) -> None:
    assert not list(crossing(room, forbidden))


def test_only_a_simulation_and_an_engine_know_both_parties() -> None:
    hospitals = {line.split(":")[0] for line in crossing("securefed", "securefed.hospital")}
    servers = {line.split(":")[0] for line in crossing("securefed", "securefed.server")}
    both = {path.rsplit("/", 1)[0] for path in hospitals} & {p.rsplit("/", 1)[0] for p in servers}
    assert {f"{room}/" for room in both} <= {
        *BOTH_PARTIES,
        "securefed/cli/",  # commands for the people of either
        "securefed/hospital/",
        "securefed/server/",
    }


@pytest.mark.parametrize(("engine", "package"), [("flare", "nvflare"), ("ray", "ray")])
def test_only_its_engine_imports_a_package_of_engines(engine: str, package: str) -> None:
    assert list(crossing(f"securefed/engine/{engine}", package))
    assert not list(crossing("securefed", package, but_for=f"securefed/engine/{engine}/"))
    assert not list(crossing("protocols", package))
    assert not list(crossing("attacks", package))


def test_engines_know_nothing_of_each_other() -> None:
    assert not list(crossing("securefed/engine/ray", "securefed.engine.flare"))
    assert not list(crossing("securefed/engine/flare", "securefed.engine.ray"))


@pytest.mark.parametrize("party", ["hospital", "server"])
def test_a_simulation_on_workers_is_that_of_one_process(party: str) -> None:
    """Ray's folder hands calls on: what a hospital or the server does is not there."""
    assert not list(crossing("securefed/engine/ray", f"securefed.{party}"))


def test_only_auditing_imports_attacks() -> None:
    assert not list(crossing("securefed", "attacks", but_for="securefed/auditing/"))


def test_attacks_import_only_the_model_the_exposures_the_verdicts_and_the_errors() -> None:
    allowed = ("securefed.model", "securefed.exposure", "securefed.verdict", "securefed.errors")
    taken = crossing("attacks", "securefed")
    names = [line.split(": ")[1] for line in taken]
    assert not [n for n in names if n != "securefed" and not n.startswith(allowed)]


@pytest.mark.parametrize("forbidden", ["torch", "opacus"])
def test_data_imports_no_learning(forbidden: str) -> None:
    assert not list(crossing("securefed/data", forbidden))


def test_nothing_below_the_command_line_imports_it() -> None:
    importers = {line.split(":")[0] for line in crossing("securefed", "securefed.cli")}
    below = {each for each in importers if not each.startswith("securefed/cli/")}
    assert below <= {"securefed/__main__.py"}  # which is the command line


def test_rooms_form_no_circle() -> None:
    order = graphlib.TopologicalSorter(rooms())
    assert list(order.static_order())  # CycleError names the circle


def test_torchvision_is_imported_in_one_module() -> None:
    users = {line.split(":")[0] for line in crossing("securefed", "torchvision")}
    assert users <= {"securefed/model/vision.py"}
    users = {line.split(":")[0] for line in crossing("attacks", "torchvision")}
    assert not users


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_no_torch(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from securefed.cli.app import cli\n"
        f"cli.main({arguments!r}, standalone_mode=False)\n"
        "slow = {'torch', 'torchvision', 'opacus', 'scipy', 'sklearn', 'matplotlib'}\n"
        "print('loaded:', sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_a_run_loads_only_what_it_needs(tmp_path: Path) -> None:
    """Scikit-learn is for curves, matplotlib for figures, Opacus for noise; each takes a while."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny(federation={"rounds": 1})))
    program = (
        "import sys\n"
        "from securefed.cli.app import cli\n"
        "words = ['run', '--config', 'tiny.yaml', '--no-dp', '--out', 'run']\n"
        "cli.main(words, standalone_mode=False)\n"
        "slow = {'sklearn', 'matplotlib', 'torchvision', 'opacus', 'scipy.stats', 'attacks'}\n"
        "print('loaded:', sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines()[-1] == "loaded: []"
    assert (tmp_path / "run" / "progress.svg").is_file()


def test_an_import_that_crosses_a_layer_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "protocols").mkdir()
    (tmp_path / "protocols" / "bad.py").write_text("def f():\n    from securefed import config\n")
    assert list(crossing("protocols", "securefed")) == [
        "protocols/bad.py: securefed",
        "protocols/bad.py: securefed.config",
    ]


def folders_of_python(folder: str) -> set[str]:
    """Names of the folders in a folder that hold Python files."""
    return {each.name for each in (ROOT / folder).iterdir() if any(each.glob("**/*.py"))}


def test_tests_mirror_the_tree() -> None:
    """A room's tests stand in a folder of its name, a single file's in one file beside them."""
    packages, vectors = {"attacks", "protocols"}, {"vectors", "fuzz"}
    assert folders_of_python("tests") == folders_of_python("securefed") | packages | vectors
    files = {path.stem for path in (ROOT / "securefed").glob("*.py")}
    of_the_repository = {"configs", "docs", "layers", "packaging"}
    for path in (ROOT / "tests").glob("test_*.py"):
        assert path.stem.removeprefix("test_") in files | of_the_repository, path.name
