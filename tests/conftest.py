"""What tests that train share. Torch is loaded only for those: the others stay light."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.tiny import settings_with

if TYPE_CHECKING:
    from securefed.data.load import FederatedData
    from tests.engine.four_sites import Four


def pytest_configure(config: pytest.Config) -> None:
    """A cache of the tests' own, where tokens of phantoms are kept: not the user's.

    Here and not in a fixture, since tests of commands copy the environment when they are imported.
    """
    cache = tempfile.TemporaryDirectory(prefix="securefed-cache-")
    os.environ["XDG_CACHE_HOME"] = cache.name
    config.add_cleanup(cache.cleanup)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread for torch, where it is loaded: the tensors of the tests are too small to share."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """Also where a shell started the tests in the background, which leaves SIGINT ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _site_keys_without_chance() -> Iterator[None]:
    """New site keys are all the same one: who goes to which hospital must not be drawn by a test.

    Patients are few here, and under one key in a hundred a hospital gets nobody to train on.
    `real_site_keys` draws them again.
    """
    from securefed.data import pseudonyms

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudonyms, "secrets", SimpleNamespace(token_bytes=lambda n: b"s" * n))
        yield


@pytest.fixture
def real_site_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Site keys as they are made outside of tests."""
    import secrets

    from securefed.data import pseudonyms

    monkeypatch.setattr(pseudonyms, "secrets", secrets)


@pytest.fixture(scope="session")
def patients() -> "FederatedData":
    """Those of a tiny federation: four hospitals with ten to train on and four held out."""
    from securefed.simulation.patients import load_data

    return load_data(settings_with()())


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> "Four":
    """Four sites and a server, each in a folder of its own, after one run; copy before changing."""
    from tests.engine.four_sites import make_four

    folder = tmp_path_factory.mktemp("played")
    four = make_four(folder / "parties", folder / "patients")
    four.play()
    return four
