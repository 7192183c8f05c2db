"""The two pages about data cannot drift from the code they describe."""

import dataclasses
import re
from pathlib import Path

import pytest

from securefed.cli.data import command
from securefed.data.dicom.grey_values import WINDOWS
from securefed.data.phantom import PhantomSpec
from securefed.data.table import ALIASES

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("column", ALIASES)
def test_every_manifest_column_and_alias_is_documented(column: str) -> None:
    line = next(
        line for line in (DOCS / "data.md").read_text().splitlines() if f"| `{column}`" in line
    )
    assert re.findall(r"`(\w+)`", line.split("|")[1] + line.split("|")[2]) == list(ALIASES[column])


def test_every_window_is_documented_with_its_figures() -> None:
    text = (DOCS / "data.md").read_text()
    for name, (width, level) in WINDOWS.items():
        assert re.search(rf"{name}`?: (width )?{width:g}, (level )?{level:g}", text), name


def test_every_phantom_setting_is_documented_with_its_default() -> None:
    table = (DOCS / "phantom.md").read_text().split("## Settings")[1].split("## ")[0]
    spec = PhantomSpec()
    for setting in dataclasses.fields(PhantomSpec):
        line = next(line for line in table.splitlines() if f"`{setting.name}`" in line)
        names = re.findall(r"`(\w+)`", line.split("|")[1])
        defaults = [float(x) for x in re.findall(r"\d*\.?\d+", line.split("|")[2])]
        value = getattr(spec, setting.name)
        if value == ():
            assert line.split("|")[2].strip() == "all"
        elif isinstance(value, tuple) and isinstance(value[0], str):
            assert re.findall(r"\w+", line.split("|")[2]) == list(value)
        elif isinstance(value, tuple):
            assert defaults == list(value)
        else:
            assert defaults[names.index(setting.name)] == value


def test_every_command_and_its_documented_options_exist() -> None:
    text = (DOCS / "data.md").read_text() + (DOCS / "phantom.md").read_text()
    options = {opt for sub in command.commands.values() for p in sub.params for opt in p.opts}
    documented = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--data"}
    assert documented <= options
    for name in command.commands:
        assert f"securefed data {name}" in text
