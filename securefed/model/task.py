"""The task: what the network is asked of an example, and what its answer costs.

A label belongs to an example, by default a patient, else a study or a slice (settings: task). The
patient stays the record: its loss is the weighted mean over its examples, so that its gradient is
one vector, clipped once, however many examples there are, and of however many classes.

Two labels, 0 and 1, have one logit, of the second. Several classes, 0 to k - 1, have one each.
"""

from torch import Tensor
from torch.nn import functional as F

from securefed.errors import DataError


def loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of the examples' cross-entropies, nats, of shape ().

    Args:
        logits: of the labels' shape, or with several classes (*shape, classes).
        labels, weights: of any shape, the same; labels 0 or 1, or the number of a class.
    """
    if logits.dim() == labels.dim():
        return F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="sum")
    of_class = logits.log_softmax(-1).gather(-1, labels.long().unsqueeze(-1))
    return -(weights * of_class.squeeze(-1)).sum()


def require_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels that a network has no answer for.

    Args:
        classes: how many have a logit each; 0 for labels 0 and 1.

    Raises:
        DataError: there are some.
    """
    known = classes or 2
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < known:
        raise DataError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, and the model knows 0 to "
            f"{known - 1}",
            hint="task.classes names the classes, or is left out where labels are 0 and 1",
        )
