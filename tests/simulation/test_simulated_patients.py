"""Where sites and hospitals are not as many, the way out that is named is accepted."""

import csv
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from securefed.cli.app import cli
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.errors import ConfigurationError


def run(manifest: Path, *arguments: str) -> Result:
    config = manifest.parent / "c.yaml"
    config.write_text(
        "data: {partition: site}\nmodel: {image_size: 32}\nprivacy: {dp: false}\n"
        "federation: {rounds: 1}\ntraining: {batch_size: 2}\n"
    )
    words = ["run", "--config", config, "--data", manifest, "--out", manifest.parent / "run"]
    words += arguments
    return CliRunner().invoke(
        cli, list(map(str, words)), standalone_mode=False, catch_exceptions=False
    )


@pytest.mark.parametrize("sites", [2, 3])
def test_the_number_of_sites_can_be_typed_as_the_hint_says(sites: int, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "p", PhantomSpec(image_size=32), sites, 8, 0)
    manifest = tmp_path / "p" / "manifest.csv"
    with pytest.raises(ConfigurationError, match=f"has {sites} sites") as refused:
        run(manifest)
    hint = str(refused.value.hint)
    options = shlex.split(hint.split(" (")[0].split(",")[0].removeprefix("set "))
    assert options[:2] == ["--clients", str(sites)]
    assert run(manifest, *options).exit_code == 0


def test_without_sites_the_column_is_named(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "p", PhantomSpec(image_size=32), 2, 8, 0)
    manifest = tmp_path / "p" / "manifest.csv"
    with manifest.open() as file:
        rows = [{**row, "site": ""} for row in csv.DictReader(file)]
    with manifest.open("w") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    with pytest.raises(ConfigurationError, match="has 1 site, ") as refused:
        run(manifest)
    assert refused.value.hint == (
        "name each patient's hospital in a column site, or set data.partition: iid"
    )
