"""The task: what the network is asked of an example, and what its answer costs.

A label belongs to an example, by default a patient, else a study or a slice (settings: task). The
patient stays the record: its loss is the weighted mean over its examples, so that its gradient is
one vector, clipped once, however many examples there are.
"""

from torch import Tensor
from torch.nn import functional as F


def loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of the examples' cross-entropies, nats, of shape ().

    Args:
        logits, labels, weights: of any shape, the same; labels 0 or 1.
    """
    return F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="sum")
