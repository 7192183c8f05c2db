"""The documentation holds: pages are current, links lead somewhere, commands and files are as told.

`written` is a real, tiny run of the command line; what it leaves is compared with the page that
describes it.
"""

import importlib
import importlib.util
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from securefed import errors
from securefed.cli.app import cli
from securefed.config import load
from securefed.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
MEASURED = DOCS / "measured"
CONFIGURATIONS = ("plain", "secure", "dp", "dp+secure")


def script(name: str, folder: Path = DOCS) -> ModuleType:
    """A script of docs/, or of another folder, imported."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(page: str, heading: str) -> str:
    """The text below a heading of a page in docs/, up to the next heading of its rank."""
    text = (DOCS / page).read_text()
    rank = heading.split(" ", 1)[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^{rank} |\Z)", text, re.M | re.S)
    assert found is not None, f"{page} has no {heading!r}"
    return found.group(1)


def first_cells(table: str) -> list[str]:
    """Everything in backticks in the first column of a Markdown table."""
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


# Generated pages


def test_the_configuration_page_and_the_default_file_are_current() -> None:
    generator = script("generate_configuration")
    assert (DOCS / "configuration.md").read_text() == generator.page()
    assert (ROOT / "configs" / "default.yaml").read_text() == generator.defaults()


def test_the_command_line_page_is_current() -> None:
    assert (DOCS / "command-line.md").read_text() == script("generate_command_line").page()


def test_the_page_of_benchmarks_is_current() -> None:
    assert (DOCS / "benchmarks.md").read_text() == script("generate_benchmarks").page()


def test_a_benchmark_that_falls_behind_its_published_ratio_is_told(tmp_path: Path) -> None:
    compared = script("run_all", ROOT / "benchmarks").compared
    case = {"case": "mask", "ours": 1.0, "times_better": {"peer": 8.0}, "of_floor": 2.0}
    published = tmp_path / "mask.json"
    published.write_text(json.dumps({"name": "mask", "better": "lower", "cases": [case]}))
    later = {**case, "times_better": {"peer": 7.2}, "of_floor": 2.4}
    told = compared({"name": "mask", "better": "lower", "cases": [later]}, published)
    assert sorted(told) == [
        ("mask, mask, floor: 0.5 then, 0.417 now", True),
        ("mask, mask, peer: 8 then, 7.2 now", False),
    ]


def test_every_clock_of_the_default_run_is_on_a_function_of_the_product() -> None:
    for _, module, names in script("run_clocks", ROOT / "benchmarks").CLOCKS:
        for name in names:
            assert callable(reduce(getattr, name.split("."), importlib.import_module(module)))


WHO_SEES_WHAT = script("generate_who_sees_what")


@pytest.mark.parametrize("path", WHO_SEES_WHAT.PAGES, ids=lambda path: path.name)
def test_who_sees_what_is_what_the_report_says(path: Path) -> None:
    assert path.read_text() == WHO_SEES_WHAT.page(path)


def test_who_sees_what_covers_the_configurations_and_every_placement_of_noise() -> None:
    placements = WHO_SEES_WHAT.PLACEMENTS.values()
    assert {configuration for configuration, _ in placements} == set(CONFIGURATIONS)
    assert {placement for _, placement in placements} == {None, "local", "distributed"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_who_sees_what_stands_in_the_generated_tables_and_nowhere_else(page: Path) -> None:
    by_hand = WHO_SEES_WHAT.BLOCK.sub("", page.read_text())
    assert "\n| observer |" not in by_hand


# The architecture

ARCHITECTURE = (DOCS / "architecture.md").read_text()


def test_the_architecture_page_draws_every_room() -> None:
    (drawing,) = blocks(ARCHITECTURE, "text")
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "securefed").iterdir()}
    rooms -= {"__init__", "__main__", "__pycache__", "py.typed"}
    assert rooms <= set(re.findall(r"\w+", drawing))


def test_the_architecture_page_has_the_rules_of_the_layer_test() -> None:
    rows = re.findall(r"^\| `(securefed/\w+)` \| (.+?) \|", ARCHITECTURE, re.M)
    told = {
        room: re.findall(r"`([\w.]+)`", forbidden.replace("/", ".")) for room, forbidden in rows
    }
    assert told == script("test_layers", ROOT / "tests").FORBIDDEN


FOLDERS = "attacks|benchmarks|configs|docs|protocols|securefed|tests"


@pytest.mark.parametrize(
    "page",
    # The changelog and the decisions tell how things were.
    [each for each in PAGES if each.name != "CHANGELOG.md" and each.parent.name != "decisions"],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_path_and_module_named_on_a_page_exists(page: Path) -> None:
    text = page.read_text()
    paths = re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for name in re.findall(r"`((?:attacks|protocols|securefed)(?:\.\w+)+)`", text):
        assert name.endswith(".json") or named(name), f"{page.name} names {name}"


def named(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


# Links and commands


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as code hosts make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {title.strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target} does not exist"
        assert not anchor or anchor in anchors(path), f"{page.name}: {target} has no such heading"


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, todo = set(), [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page in reached:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())
        todo += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert sorted(set(DOCS.rglob("*.md")) - reached) == []


def commands(text: str) -> Iterator[list[str]]:
    """The words after `securefed` of every command in a page's sh blocks."""
    for line in "".join(blocks(text, "sh")).splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words and words[0] in ("securefed", ".venv/bin/securefed"):
                yield words[1 : words.index(">")] if ">" in words else words[1:]


def parse(words: list[str]) -> None:
    """Parse a command line without running it; click.UsageError if it would be refused."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name}")
        command = found
    command.make_context("securefed", list(words))


@pytest.mark.parametrize(
    "words", [words for page in PAGES for words in commands(page.read_text())], ids=" ".join
)
def test_every_command_in_the_docs_is_accepted(words: list[str]) -> None:
    parse(words)
    files = [word for word in words if word.startswith("configs/")]
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_a_misspelt_command_in_the_docs_would_be_found() -> None:
    (words,) = commands("```sh\nsecurefed run --dp-epsilom 8  # a comment\n```\n")
    with pytest.raises(click.UsageError):
        parse(words)


@pytest.mark.parametrize(
    "code", [code for page in PAGES for code in blocks(page.read_text(), "python")]
)
def test_python_in_the_docs_runs(code: str) -> None:
    exec(compile(code, "docs", "exec"), {})  # noqa: S102  # our own pages


def test_every_key_named_in_the_docs_exists() -> None:
    known = {key for key, _ in script("generate_configuration").entries(type(load(None, {})))}
    sections = "data|model|training|privacy|federation|secure_aggregation|exposures|evaluation"
    for page in PAGES:
        for key in re.findall(rf"`((?:{sections})\.[a-z_.]+)(?:: [^`]*)?`", page.read_text()):
            file = key.endswith((".safetensors", ".jsonl", ".json", ".py", ".html"))
            assert file or key in known, f"{page.name} names {key}"


# The front door


def test_the_first_two_shell_blocks_of_the_readme_are_one_line_each() -> None:
    run, test = blocks((ROOT / "README.md").read_text(), "sh")[:2]
    for line in (run, test):
        assert line.count("\n") == 1
        assert "python3 -m venv .venv && .venv/bin/pip install" in line
        assert "-c constraints.txt" in line
    assert "securefed run --dp-epsilon 8" in run
    assert "pytest" in test


def test_the_checks_run_the_readmes_test_line() -> None:
    """The line is read out of the README; what is read must be the second block."""
    source = (ROOT / ".ci" / "run").read_text()
    (program,) = re.findall(r"test_line=\$\(awk '(.+)' README\.md\)", source)
    found = subprocess.run(
        ["awk", program, str(ROOT / "README.md")], capture_output=True, text=True, check=True
    )
    assert found.stdout == blocks((ROOT / "README.md").read_text(), "sh")[1]


def measured(name: str) -> dict[str, Any]:
    """One of the summaries behind the README's figures."""
    summary: dict[str, Any] = json.loads((MEASURED / f"{name.replace('+', '-')}.json").read_text())
    return summary


def row(name: str) -> str:
    """The README's table row for a configuration."""
    summary = measured(name)
    low, high = summary["auc_ci95"]
    epsilon = "none" if summary["epsilon"] is None else f"{summary['epsilon']:.3f}"
    delta = "" if summary["delta"] is None else f"{summary['delta']:g}"
    up = summary["bytes_up_per_client_round"] / 1000
    return (
        f"| `{name}` | {summary['auc']:.3f} ({low:.3f} to {high:.3f}) | {epsilon} | {delta} "
        f"| {up:.1f} kB | {summary['wall_seconds']:.0f} s |"
    )


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_readmes_figures_are_those_measured(name: str) -> None:
    assert row(name) in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_was_measured_is_the_default_run_of_that_configuration(name: str) -> None:
    summary, default = measured(name), load(None, {})
    assert summary["configuration"] == name
    assert summary["rounds"] == default.federation.rounds
    assert summary["clients"] == default.federation.clients
    dp, exact = "dp" in name, default.federation.clients * default.data.phantom.patients
    # With differential privacy the number is the one declared, with noise.
    assert summary["patients"] == pytest.approx(exact, rel=0.1 if dp else 0)
    assert (summary["epsilon"] is not None) == dp
    assert not dp or 0 < summary["epsilon"] <= default.privacy.epsilon
    assert summary["privacy_unit"] == ("patient" if dp else None)


def test_the_readmes_comparison_is_the_one_measured() -> None:
    folder = MEASURED / "with-baselines"
    summary = json.loads((folder / "summary.json").read_text())
    baselines = json.loads((folder / "baselines.json").read_text())
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"the shared model reached AUC {summary['auc']:.3f}" in text
    assert f"each hospital alone {summary['local_auc']:.3f} on average" in text
    assert f"CT only {baselines['one_modality']['ct']:.3f}" in text
    assert f"MRI only {baselines['one_modality']['mri']:.3f}" in text


# Errors


def test_the_errors_page_shows_what_the_command_prints() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(None, {"privacy.epsilon": -1.0})
    (shown,) = blocks((DOCS / "errors.md").read_text(), "text")
    assert shown == f"securefed: {refused.value}\nhint: {refused.value.hint}\n"


def test_the_errors_page_names_every_error_with_its_exit_code() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", (DOCS / "errors.md").read_text(), re.M))
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in classes if issubclass(kind, errors.SecureFedError)]
    assert len(kinds) == len(classes)
    kinds.remove(errors.SecureFedError)
    assert told == {kind.__name__: str(kind.exit_code) for kind in kinds}


# The run directory


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory made by the command line from configs/smoke.yaml."""
    path = tmp_path_factory.mktemp("docs") / "run"
    config = str(ROOT / "configs" / "smoke.yaml")
    arguments = ["run", "--config", config, "--out", str(path), "--json"]
    program = f"import sys; from securefed.cli.app import main; sys.argv[1:] = {arguments}; main()"
    # A process of its own: the command sets up logging and signals for good.
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return path


def test_the_page_names_every_key_of_summary_json_and_no_other(written: Path) -> None:
    summary = json.loads((written / "summary.json").read_text())
    assert sorted(first_cells(section("run-directory.md", "## summary.json"))) == sorted(summary)


def test_the_page_names_every_key_of_run_json_and_no_other(written: Path) -> None:
    run = json.loads((written / "run.json").read_text())
    assert set(first_cells(section("run-directory.md", "## run.json"))) == set(run)


def test_the_page_names_every_key_of_a_metrics_line(written: Path) -> None:
    text = section("run-directory.md", "## metrics.jsonl")
    for line in (written / "metrics.jsonl").read_text().splitlines():
        for key in json.loads(line):
            assert f"`{key}`" in text or f'"{key}"' in text or key == "round"


def test_the_page_names_every_file_of_a_run(written: Path) -> None:
    page = (DOCS / "run-directory.md").read_text().split("## summary.json")[0]
    patterns = [
        re.escape(name).replace("NAME", r"hospital-\d+").replace("\\-N\\.", r"\-\d+\.")
        for name in first_cells(page)
    ]
    for path in written.rglob("*"):
        place = path.relative_to(written).as_posix()
        described = any(re.fullmatch(pattern, place) for pattern in patterns)
        assert path.is_dir() or described, f"docs/run-directory.md does not name {place}"


def test_the_smoke_run_keeps_the_promises_of_the_default_configuration(written: Path) -> None:
    summary = json.loads((written / "summary.json").read_text())
    assert summary["configuration"] == "dp+secure"
    assert 0 < summary["epsilon"] <= 8
    assert summary["survivors_by_round"] == [3, 3]
