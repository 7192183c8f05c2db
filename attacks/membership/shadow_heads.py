"""Many two-layer heads on the same features, trained at once: shadows where only a head is known.

For an attacker who has features and a linear-ReLU-linear head on them, and nothing of the
federation: every shadow takes full-batch gradient steps on its own half of the records. The
gradients are written out (no graph is kept), one batched matrix product per layer and pass. The
audit itself replays the whole federation instead (attacks.membership.federation_replay).
"""

import torch
from torch import Tensor


@torch.no_grad()
def train_heads(
    features: Tensor,
    labels: Tensor,
    inside: Tensor,
    start: Tensor,
    hidden: int,
    learning_rate: float,
    steps: int,
) -> Tensor:
    """Train one head per row of `inside` and say what each thinks of every record.

    Args:
        features: (records, inputs) float32.
        labels: (records,) 0 or 1.
        inside: (models, records) bool, the same number of records in every row.
        start: (models, size) initial parameters: hidden weight and bias, output weight and bias.

    Returns:
        (models, records) logits.

    Raises:
        ValueError: rows of `inside` differ in their number of records.
    """
    models, inputs = len(inside), features.shape[1]
    members = inside.sum(1)
    if int(members.min()) != int(members.max()):
        raise ValueError(f"models train on {int(members.min())} to {int(members.max())} records")
    rows = torch.nonzero(inside)[:, 1].view(models, -1)  # (models, members)
    own = features[rows].transpose(1, 2).contiguous()  # (models, inputs, members)
    wanted = labels[rows][:, None]  # (models, 1, members)
    sizes = [hidden * inputs, hidden, hidden, 1]
    weight, bias, output, offset = (part.clone() for part in torch.split(start, sizes, dim=1))
    weight, bias = weight.view(models, hidden, inputs), bias[:, :, None]
    output, offset = output[:, None], offset[:, :, None]
    rate = learning_rate / own.shape[2]
    for _ in range(steps):
        activity = torch.relu_(torch.baddbmm(bias, weight, own))  # (models, hidden, members)
        residual = torch.sigmoid(torch.baddbmm(offset, output, activity)) - wanted
        back = (output.transpose(1, 2) * residual) * (activity > 0)  # (models, hidden, members)
        output.baddbmm_(residual, activity.transpose(1, 2), alpha=-rate)
        offset.sub_(residual.sum(2, keepdim=True), alpha=rate)
        weight.baddbmm_(back, own.transpose(1, 2), alpha=-rate)
        bias.sub_(back.sum(2, keepdim=True), alpha=rate)
    activity = torch.relu_(weight @ features.T + bias)  # (models, hidden, records)
    return (output @ activity + offset).squeeze(1)
