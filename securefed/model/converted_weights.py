"""Weights of torchvision's networks (ImageNet, Kinetics) as a file that runs can start from.

What becomes of them is what `conversion` does: the first layer's weights of red, green and blue are
summed, weight and bias of each normalisation are kept, running statistics are dropped. The last are
no small loss: features of a frozen encoder under GroupNorm are not those that the classifier of
ImageNet saw. ImageNet's channels were scaled to (x - .45) / .23 or so; ours are (x - .5) * 4.
"""

import hashlib
import pickle
import struct
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of_bytes
from torch import Tensor

from securefed.errors import ConfigurationError
from securefed.files import read_bounded
from securefed.model import weight_files
from securefed.model.conversion import torchvision_map

# What torch raises over bytes that are no state dictionary.
_ODD = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
)


def convert(state: Path, encoder: str, source: str, licence: str, out: Path) -> dict[str, str]:
    """Write the state dictionary of a network of torchvision as encoders' weights.

    Args:
        state: safetensors, or as torch.save wrote it, with three colours and running statistics.
        encoder: a network of torchvision that is one of ENCODERS.
        source, licence: where it is from, and what one may do with it; run.json has both.

    Returns:
        The file's metadata.

    Raises:
        DataError: it cannot be read.
        ConfigurationError: it is not that network's.
    """
    content = read_bounded(state, weight_files.MOST_BYTES)
    layers = torchvision_map(encoder, state=_tensors(state, content))
    about = {
        "format": weight_files.FORMAT,
        "encoder": encoder,
        "width": weight_files.ANY,
        "source": source,
        "licence": licence,
        "converted_from_sha256": hashlib.sha256(content).hexdigest(),
    }
    prefix = f"{weight_files.OF_ALL}layers."
    tensors = {prefix + name: t.contiguous() for name, t in layers.state_dict().items()}
    weight_files.write(out, tensors, about)
    return about


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        # torch's own text tells its reader to load the file with everything that is in it.
        return "a pickle of more than tensors, or a damaged one; nothing in it was run"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _tensors(path: Path, content: bytes) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(tensors_of_bytes(content))
        # torchvision gives its weights out in torch's own format alone, which is a pickle. Read by
        # torch's restricted unpickler it builds tensors and dictionaries and calls nothing else;
        # this is the only place that reads one, and nothing of ours is ever written as one.
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except _ODD as error:
        reason = _reason(error)
        raise ConfigurationError(
            f"{path.name}: no state dictionary ({reason})",
            hint="give the file that torchvision downloads (.pth), or safetensors",
        ) from None
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ConfigurationError(
            f"{path.name}: holds no state dictionary, but {type(found).__name__}",
            hint="give a dictionary of names and tensors (network.state_dict())",
        )
    return found
