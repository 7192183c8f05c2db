"""The network that every hospital of a run starts from."""

import torch

from securefed.config import Settings
from securefed.model import public_weights
from securefed.model.network import DualEncoderNetwork, NetworkShape


def initial_network(settings: Settings) -> tuple[DualEncoderNetwork, str | None]:
    """The network every hospital starts from, and the SHA-256 of its public weights, if any."""
    model = settings.model
    torch.manual_seed(settings.seed)
    network = DualEncoderNetwork(
        NetworkShape(
            encoder=model.encoder,
            image_size=model.image_size,
            width=model.width,
            attention_width=model.attention_width,
            head_width=model.head_width,
        )
    )
    if model.initialisation == "random":
        return network, None
    return network, public_weights.load(network, public_weights.shipped())
