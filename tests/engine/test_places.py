"""Where an engine cannot work is said before anything is made there."""

from pathlib import Path

import pytest

from securefed.engine.flare.places import require_path
from securefed.errors import ConfigurationError


@pytest.mark.parametrize("name", ["St Mary", "north (old)", "o'neill", "a;b", "$HOME"])
def test_a_path_that_a_command_line_takes_apart_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="the engine cannot work in") as refused:
        require_path(tmp_path / name / "site")
    assert "no blanks" in str(refused.value.hint)
    require_path(tmp_path / "st-mary" / "site")
