"""A released model as ONNX: encoders, fusion and head in one graph, from pixels to logits.

    images   (examples, modalities, slices, size, size) uint8
    present  (examples, modalities, slices) bool
    logits   (examples,) float32

Numbers of examples and of slices are free. The graph starts at the pixels that the network takes;
what comes before is said in the metadata (`papers`), which any reader of ONNX shows.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from securefed.errors import ConfigurationError
from securefed.handover.equality import require_equal
from securefed.model.network import FusionNetwork

NEEDED = "--onnx needs onnx, onnxscript and onnxruntime"


def onnx_file(network: FusionNetwork, told: Mapping[str, str]) -> bytes:
    """The file, after it answered as the network does.

    Args:
        told: metadata.

    Raises:
        ConfigurationError: the extra is not installed.
        RunError: it answers otherwise.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # what torch converts with
        from onnx import helper
    except ImportError:
        raise ConfigurationError(
            f"{NEEDED}, which are not installed", hint="pip install 'securefed[export]'"
        ) from None
    model = _converted(network)
    _without_traces(model)
    model.producer_name = "securefed"
    helper.set_model_props(model, dict(told))
    content: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def answer(images: Tensor, present: Tensor) -> Tensor:
        named = {"images": images.numpy(), "present": present.numpy()}
        return torch.from_numpy(session.run(["logits"], named)[0])

    require_equal(network, answer, "ONNX file")
    return content


def _converted(network: FusionNetwork) -> Any:
    examples, slices = Dim("examples", min=1, max=2**16), Dim("slices", min=1, max=2**10)
    size, modalities = network.shape.image_size, len(network.shape.modalities)
    images = torch.zeros(2, modalities, 3, size, size, dtype=torch.uint8)
    present = torch.ones(2, modalities, 3, dtype=torch.bool)
    free = {0: examples, 2: slices}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter, about itself
        program = torch.onnx.export(
            network,
            (images, present),
            input_names=["images", "present"],
            output_names=["logits"],
            dynamic_shapes=(free, free),
            dynamo=True,
            verbose=False,
        )
    return program.model_proto  # type: ignore[union-attr]


def _without_traces(model: Any) -> None:
    """Take away where in the converter's machine each operation was written."""
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        del graph.metadata_props[:]
        for each in (*graph.node, *graph.value_info):
            del each.metadata_props[:]
    for each in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del each.metadata_props[:]
