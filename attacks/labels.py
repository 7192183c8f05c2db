"""Labels as a network's logits see them: one logit of a tumour, or one for each of several classes.

Attacks hold logits as (..., logits), whatever their number, and ask `securefed.model.task` what an
answer costs.
"""

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from securefed.model import task
from securefed.model.patients import PatientTensors


def losses(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """(n, logits), (n,), (n,) -> each example's part of its record's loss, (n,)."""
    each: Tensor = vmap(task.loss)(_answer(logits), labels, weights)
    return each


def residuals(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """What `losses` change by with each logit, (n, logits); differentiable where logits are."""
    # Not torch.func.grad: shadow models ask for few logits at a time, and it cost them a fifth.
    with torch.enable_grad():
        own = logits if logits.requires_grad else logits.detach().requires_grad_()
        loss = task.loss(_answer(own), labels, weights)
        (slope,) = torch.autograd.grad(loss, own, create_graph=logits.requires_grad)
    return slope


def _answer(logits: Tensor) -> Tensor:
    return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


def truth(labels: Tensor, logits: int) -> Tensor:
    """(n,) labels as what a network that is certain, and right, predicts for each logit, 0 or 1."""
    if logits == 1:
        return labels[:, None]
    return F.one_hot(labels.long(), logits).to(labels)


def another(labels: Tensor, logits: int) -> Tensor:
    """A wrong label for each, (n,)."""
    return (labels + 1) % max(2, logits)


def shares(group: PatientTensors, logits: int) -> Tensor:
    """(patients, logits) float32: of each patient's examples the share that has the label."""
    none = group.label.new_zeros(group.patients, logits)
    of_examples = truth(group.label, logits) * group.weight[:, None]
    return none.index_add_(0, group.patient, of_examples)


def mixture(parts: Tensor, count: int) -> Tensor:
    """(count,) labels in about these parts, (logits,): as many of each as come nearest.

    Of one logit it is the share of positive ones; they come first.
    """
    if len(parts) == 1:
        return (torch.arange(count) < round(count * float(parts))).float()
    parts = parts.clamp(min=0)
    ends = (parts.cumsum(0) / parts.sum().clamp(min=1e-12) * count).round().long()
    return torch.bucketize(torch.arange(count), ends, right=True).clamp(max=len(parts) - 1).float()
