"""Where to train: the device of a settings name."""

import torch

from securefed.errors import ConfigurationError


def choose_device(name: str) -> torch.device:
    """The device of a settings name; ConfigurationError if there is no such device here."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("device: cuda is not available here", hint="use --device cpu")
    available = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(available if name == "auto" else name)
