"""torchvision is imported in one place, late, and beside any build of torch."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import securefed
from securefed.model import vision

ROOT = Path(securefed.__file__).parent.parent


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_no_other_module_imports_torchvision():
    sources = [
        p for top in ("securefed", "protocols", "attacks") for p in (ROOT / top).rglob("*.py")
    ]
    assert Path(vision.__file__) in sources
    assert len(sources) > 30
    assert [str(path) for path in sources if "torchvision" in _imported(path)] == []


def test_the_network_does_not_load_torchvision_until_resnet18_is_asked_for():
    script = (
        "import sys\n"
        "from securefed.model.encoders import ENCODERS\n"
        "ENCODERS['compact'](4)\n"
        "before = 'torchvision' in sys.modules\n"
        "ENCODERS['resnet18'](4)\n"
        "print(before, 'torchvision' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]


def test_its_networks_build_and_run():
    network = vision.models.resnet18(weights=None)
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


def test_an_import_that_fails_for_another_reason_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    def fail(name: str) -> None:
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(RuntimeError, match="no space left"):
        vision._import_torchvision_models()
