"""What commands load: help comes at once, and a run loads what trains.

Torch and Opacus take seconds; beside them nothing that is slow has a part in a run.
"""

from pathlib import Path

import pytest
import yaml

from tests.loaded import SLOW, loaded
from tests.tiny import tiny

COMMAND = """
import sys
from securefed.cli.app import main
sys.argv = ["securefed", *{words!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"]])
def test_help_loads_nothing_that_computes(words: list[str]) -> None:
    computes = {"torch", "scipy", "opacus", "cryptography", "attacks"}
    assert loaded(COMMAND.format(words=words), computes | SLOW) == "[]"


@pytest.mark.parametrize("dp", [True, False])
def test_a_run_loads_what_trains(dp: bool, tmp_path: Path) -> None:
    settings = tiny(privacy={"dp": dp, "delta": 1e-3}, federation={"rounds": 1})
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    words = ["run", "--config", str(tmp_path / "settings.yaml"), "--out", str(tmp_path / "run")]
    never = {"attacks", "securefed.auditing", "pydicom", "nvflare"} | SLOW
    also = set() if dp else {"opacus"}
    assert loaded(COMMAND.format(words=words), never | also) == "[]"
