"""Patients as tokens: what frozen encoders make of their images, computed once and kept."""

from dataclasses import replace

import torch
from torch import Tensor

from securefed.model.network import DualEncoderNetwork
from securefed.model.patients import PatientTensors

CHUNK = 64  # slices encoded at a time


@torch.no_grad()
def tokens_of(network: DualEncoderNetwork, group: PatientTensors) -> PatientTensors:
    """The same patients with tokens of the network's encoders in place of images.

    Padding is not encoded: its tokens are zeros, and no attention falls on it.
    """
    network.eval()
    present = group.has_ct | group.has_mri  # (patients, slices)
    # An empty group has a token shape too.
    ct, mri = group.ct[present].float() / 255, group.mri[present].float() / 255
    pairs = zip(torch.split(ct, CHUNK), torch.split(mri, CHUNK), strict=True)
    encoded = [network.encode(*pair) for pair in pairs]
    return replace(
        group,
        ct=_in_place(torch.cat([tokens for tokens, _ in encoded]), present),
        mri=_in_place(torch.cat([tokens for _, tokens in encoded]), present),
    )


def _in_place(tokens: Tensor, present: Tensor) -> Tensor:
    """(n, places, width) of the present slices -> (patients, slices, places, width)."""
    out = tokens.new_zeros((*present.shape, *tokens.shape[1:]))
    out[present] = tokens
    return out
