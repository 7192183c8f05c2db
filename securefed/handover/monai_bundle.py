"""A released model as a MONAI bundle: a folder that MONAI reads and runs without this package.

    configs/metadata.json    what goes in, what comes out, and the model's papers
    configs/inference.json   reading, network and answers, as MONAI's configuration
    models/model.pt2         the network with its weights, as a torch.export program
    docs/README.md           the model card

MONAI has one tensor for what goes in: (examples, modalities, size, size, slices), grey values 0 to
255, and no mask. A slice of a modality counts as not acquired where all of its pixels are 0, which
no scanned slice of a head is. The program is no pickle.
"""

import io
import json
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from securefed import __version__
from securefed.handover.equality import require_equal
from securefed.handover.papers import CLASSES, preprocessing
from securefed.model.network import FusionNetwork
from securefed.prediction.model import ReleasedModel
from securefed.wording import listed

PROGRAM = "models/model.pt2"
MONAI = "1.6.1"  # what the tests load bundles with

INFERENCE: dict[str, Any] = {
    "imports": ["$import csv", "$import glob", "$import os", "$import torch"],
    "bundle_root": ".",
    "dataset_dir": "$@bundle_root + '/data'",
    "output": "$@bundle_root + '/predictions.csv'",
    "device": "cpu",
    "files": "$sorted(glob.glob(@dataset_dir + '/*.n*'))",
    # Unflattened: MONAI puts networks into evaluation mode, which other programs refuse.
    "network_def": f"$torch.export.unflatten(torch.export.load(@bundle_root + '/{PROGRAM}'))",
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "image_only": True},
            {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
        ],
    },
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': each} for each in @files]",
        "transform": "@preprocessing",
    },
    "probabilities": "$[@normalise(@network(each['image'][None].as_tensor()))[0].tolist() "
    "for each in @dataset]",
    "run": [
        "$csv.writer(open(@output, 'w')).writerows([('image', *@columns), "
        "*((os.path.basename(f), *p) for f, p in zip(@files, @probabilities))])"
    ],
}


class OneTensor(nn.Module):
    """The network as MONAI asks it: (examples, modalities, size, size, slices) to logits.

    They are (examples, 1), or (examples, classes) of a model of several.
    """

    def __init__(self, network: FusionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        images = image.movedim(-1, 2)
        logits: Tensor = self.network(images, (images != 0).flatten(-2).any(-1))
        return logits if self.network.shape.classes else logits[:, None]


def write_bundle(folder: Path, model: ReleasedModel, told: Mapping[str, str]) -> None:
    """Write the bundle into an empty folder, after its program answered as the model does.

    Args:
        told: the model's papers.

    Raises:
        RunError: it answers otherwise.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        program = _program(model.network)
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    (folder / PROGRAM).write_bytes(program)
    answers = {
        "columns": list(model.classes or CLASSES[1:]),
        "normalise": "$lambda x: torch.softmax(x, -1)" if model.classes else "$torch.sigmoid",
    }
    inference = json.dumps(INFERENCE | answers, indent=2) + "\n"
    (folder / "configs/inference.json").write_text(inference)
    (folder / "configs/metadata.json").write_text(json.dumps(_about(model, told), indent=2) + "\n")
    (folder / "docs/README.md").write_text(told["securefed-card"])


def _program(network: FusionNetwork) -> bytes:
    size, modalities = network.shape.image_size, len(network.shape.modalities)
    free = {0: Dim("examples", min=1, max=2**16), 4: Dim("slices", min=1, max=2**10)}
    example = torch.ones(2, modalities, size, size, 3)
    with torch.no_grad():
        exported = torch.export.export(OneTensor(network), (example,), dynamic_shapes=(free,))
    for graph in (each.graph for each in exported.graph_module.modules() if hasattr(each, "graph")):
        for node in graph.nodes:
            node.meta.pop("stack_trace", None)  # it says where on this machine the code lies
    exported.example_inputs = None  # the one thing in the file that would be a pickle
    written = io.BytesIO()
    torch.export.save(exported, written)
    read = torch.export.unflatten(torch.export.load(io.BytesIO(written.getvalue())))

    def answer(images: Tensor, present: Tensor) -> Tensor:
        logits: Tensor = read(images.float().movedim(2, -1))
        return logits if network.shape.classes else logits[:, 0]

    require_equal(network, answer, "MONAI bundle")
    return written.getvalue()


def _about(model: ReleasedModel, told: Mapping[str, str]) -> dict[str, Any]:
    """metadata.json, with the keys of MONAI's schema and ours below `securefed`."""
    size, names = model.image_size, listed([name.upper() for name in model.modalities])
    caution = f" NOT FOR USE ON PATIENTS: {listed(model.cautions)}." if model.cautions else ""
    return {
        "version": __version__,
        "changelog": {__version__: f"exported {datetime.now(UTC):%Y-%m-%d}"},
        "monai_version": MONAI,
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {},
        "name": "SecureFed model",
        "task": f"Probability of {listed(model.classes or CLASSES[1:])} of a {model.example}, "
        f"from {names}",
        "description": f"Dual-encoder cross-attention network, trained by a federation.{caution}",
        "authors": "The hospitals of the run",
        "copyright": "as the hospitals of the run agreed",
        "intended_use": f"Research; no diagnosis.{caution}",
        "data_type": "numpy or NIfTI, channels first",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "+".join(model.modalities),
                    "num_channels": len(model.modalities),
                    "spatial_shape": [size, size, "n"],
                    "dtype": "float32",
                    "value_range": [0, 255],
                    "is_patch_data": False,
                    "channel_def": dict(enumerate(model.modalities)),
                    "preprocessing": preprocessing(model),
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classification",
                    "num_channels": len(model.classes) or 1,
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {
                        number: f"logit of {name}"
                        for number, name in enumerate(model.classes or CLASSES[1:])
                    },
                }
            },
        },
        "securefed": dict(told),
    }
