"""Which run of a site a command is about."""

import shutil
from pathlib import Path

import pytest

from securefed.cli.folders import SITE_FILE, run_folder
from securefed.errors import ConfigurationError
from securefed.hospital import site as site_file
from tests.engine.four_sites import Four


def test_the_only_run_of_a_site_needs_no_name(played: Four) -> None:
    folder = played.sites["east"].folder
    for chosen in (None, "trial", played.agreement.digest[:8], played.agreement.digest.upper()):
        assert run_folder(folder, chosen) == played.run_of("east")


def test_the_name_of_the_sites_file_is_the_sites() -> None:
    assert SITE_FILE == site_file.NAME


def test_any_other_folder_is_its_own_run(tmp_path: Path) -> None:
    assert run_folder(tmp_path, None) == tmp_path
    with pytest.raises(ConfigurationError, match="--run chooses among the runs of a site"):
        run_folder(tmp_path, "trial")


def test_of_several_runs_one_is_chosen_and_what_there_is_is_named(
    played: Four, tmp_path: Path
) -> None:
    first = played.copied("east", tmp_path)
    other = first.parent / "another"
    shutil.copytree(first, other)
    agreement = other / "agreement.yaml"
    agreement.write_text(agreement.read_text().replace("name: trial", "name: second"))
    site = site_file.open_site(first.parent.parent)
    (second,) = [each for each in site.agreements() if each.name == "second"]
    other.rename(first.parent / second.run)
    with pytest.raises(ConfigurationError, match=r"2 runs: second \(\w{16}\), trial \(\w{16}\)"):
        run_folder(site.folder, None)
    assert run_folder(site.folder, "trial") == first
    assert run_folder(site.folder, second.digest[:6]).name == second.run
    with pytest.raises(ConfigurationError, match="no run named 'third'"):
        run_folder(site.folder, "third")


def test_a_site_without_a_run_says_how_to_take_part(played: Four, tmp_path: Path) -> None:
    run = played.copied("west", tmp_path)
    (run / "run.json").unlink()
    with pytest.raises(ConfigurationError, match="no run yet") as caught:
        run_folder(run.parent.parent, None)
    assert "securefed client" in str(caught.value.hint)
