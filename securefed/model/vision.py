"""torchvision's networks, importable beside a CPU-only torch.

torchvision's wheel on the public index is built against CUDA torch; beside a CPU build its C++
operators do not load and `import torchvision` fails ("operator torchvision::nms does not
exist"), because it registers shape rules for two box operators at import. We use its networks
only, never those operators, so the missing operator *schemas* are declared first. Nothing is
declared where torchvision imports as it is. Everything else imports torchvision through here.
"""

import importlib
import sys
from types import ModuleType

import torch

_BOX_OPERATORS = ("nms", "qnms")
_declared: list[torch.library.Library] = []  # a Library withdraws its schemas when collected


def _import_torchvision_models() -> ModuleType:
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in _BOX_OPERATORS:
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(operator + schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return importlib.import_module("torchvision.models")


models = _import_torchvision_models()
