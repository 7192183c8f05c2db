"""The package says the same about itself everywhere, and holds what it needs."""

import re
import tomllib
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import securefed

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("securefed", "protocols", "attacks")


def pins() -> dict[str, Version]:
    """Canonical name -> version, of constraints.txt."""
    found: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            found[canonicalize_name(name)] = Version(version)
    return found


def requirements() -> list[Requirement]:
    """Everything pyproject.toml asks for, extras included.

    Not the extra `peers`: what we are measured against has pins of its own and belongs in an
    environment of its own.
    """
    extras = {k: v for k, v in PROJECT["optional-dependencies"].items() if k != "peers"}
    lines = [*PROJECT["dependencies"], *(line for extra in extras.values() for line in extra)]
    return [Requirement(line) for line in lines]


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["version"]
    assert securefed.__version__ == version
    assert metadata.version("securefed") == version
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == version


def test_the_changelog_has_an_unreleased_chapter_or_this_version() -> None:
    chapters = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert chapters[0] in ("Unreleased", PROJECT["version"])


def test_the_promised_extras_exist() -> None:
    assert {"dev", "dicom"} <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("wanted", requirements(), ids=lambda wanted: wanted.name)
def test_every_dependency_is_pinned_within_its_range(wanted: Requirement) -> None:
    pinned = pins()[canonicalize_name(wanted.name)]
    assert wanted.specifier.contains(pinned)


def test_pins_are_plain_versions_of_any_build() -> None:
    assert [name for name, version in pins().items() if version.local] == []


def test_pins_reach_every_dependency_of_a_dependency() -> None:
    """Walks the installed packages' own requirements, for this platform."""
    pinned, seen, todo = pins(), set(), [(each, "") for each in requirements()]
    while todo:
        wanted, extra = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in seen or (wanted.marker and not wanted.marker.evaluate({"extra": extra})):
            continue
        seen.add(name)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        todo += [(Requirement(line), "") for line in needed]
    assert sorted(seen - set(pinned)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package: str) -> None:
    assert (resources.files(package) / "py.typed").is_file()


def test_the_public_weights_are_inside_the_package() -> None:
    weights = resources.files("securefed.model") / "weights" / "compact.safetensors"
    assert weights.is_file()
    assert len(weights.read_bytes()) < 1_000_000  # a repository is no place for large models


def test_the_wheel_takes_exactly_the_three_packages() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tool["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    assert all((ROOT / package / "__init__.py").is_file() for package in PACKAGES)


def test_the_command_is_installed() -> None:
    scripts = metadata.entry_points(group="console_scripts", name="securefed")
    assert [script.value for script in scripts] == ["securefed.cli.app:main"]
