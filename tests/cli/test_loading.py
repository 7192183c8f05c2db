"""While modules are loaded nobody looks for garbage, and afterwards somebody does again."""

import gc
import sys
from collections.abc import Iterator

import pytest

from securefed.cli.loading import loading


@pytest.fixture
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("nothing_loaded")
def test_what_was_loaded_is_not_looked_at_again() -> None:
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


@pytest.mark.usefixtures("nothing_loaded")
def test_a_module_that_is_not_there_leaves_nothing_switched_off() -> None:
    with pytest.raises(ModuleNotFoundError), loading():
        raise ModuleNotFoundError
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("nothing_loaded")
def test_who_has_switched_it_off_keeps_it_off() -> None:
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
