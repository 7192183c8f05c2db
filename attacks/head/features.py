"""What the gradient of the classifier's first linear layer says about one patient.

A linear layer z = W x + b that sees one input x has dl/dW_i = (dl/dz_i) x and dl/db_i = dl/dz_i, so
that the ratio of row i is x itself (Phong et al. 2018; Boenisch et al. 2023). Our classifier sees a
patient at many places (slices and places of the feature map), and its logit is the log-mean-exp of
their logits (securefed.model.network), whose derivatives are the softmax weights a_p over places.
With residual r = sigmoid(logit) - label, output weights v and joined features x_p:

    dl/dW_i = r v_i s_i            s_i = sum_p a_p [unit i is on at p] x_p
    dl/db_i = r v_i t_i            t_i = sum_p a_p [unit i is on at p]
    ratio   = s_i / t_i            a weighted mean of the joined features over the places where
                                   unit i is on: a function of this patient and public parameters

We call (s_i, t_i) over all hidden units the patient's *signature*. With one patient in the gradient
the ratio is that patient's exactly, whatever clipping did (it scales r). With several patients it
is their mean with weights r t_i, of either sign: a mixture, which `sparse_recovery` takes apart
only where each patient enters with a single place.

A patient of several labelled examples has one gradient, the sum of theirs by weight (model.task):
its signature is the sum of w r (s_i, t_i) over them, a function of the patient, of all its labels
and of public parameters as before. Its ratio mixes the examples, and is as exact.

Reference: Phong et al. 2018, "Privacy-Preserving Deep Learning via Additively Homomorphic
Encryption", section 3; Geiping et al. 2020 (arXiv 2003.14053), proposition 3.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import grad

from securefed.model import task
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors

Floats = NDArray[np.float64]
CHUNK = 64  # examples, or slices, at a time
SMALLEST = 1e-300  # residual of a network that is certain, and right


@dataclass(frozen=True, eq=False)
class HeadGradient:
    """The classifier's part of a gradient; m hidden units, d joined features.

    Attributes:
        weight: of the hidden layer's weights, (m, d).
        bias: of its biases, (m,).
        output_bias: of the last bias: the sum of residuals over the batch, times its scale.
    """

    weight: Floats = field(repr=False)
    bias: Floats = field(repr=False)
    output_bias: float

    @property
    def rows(self) -> Floats:
        """Weights and bias side by side, (m, d + 1)."""
        return np.concatenate([self.weight, self.bias[:, None]], axis=1)


@dataclass(frozen=True, eq=False)
class Signatures:
    """Signatures of patients under given parameters.

    Attributes:
        rows: what each hidden unit's gradient is in proportion to, (patients, m, d + 1): the
            examples' s and t times their residuals, in units of `residual`.
        places: s and t as they are, the mean over the examples, (patients, m, d + 1).
        residual: root mean square of the examples' residuals, (patients,).
        probability: the network's prediction, the mean over the examples, (patients,).
        label: (patients,), 0 or 1; of several examples the share of positive ones.
    """

    rows: Floats = field(repr=False)
    places: Floats = field(repr=False)
    residual: Floats = field(repr=False)
    probability: Floats = field(repr=False)
    label: Floats = field(repr=False)

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, index: NDArray[np.intp] | slice) -> "Signatures":
        return Signatures(
            self.rows[index],
            self.places[index],
            self.residual[index],
            self.probability[index],
            self.label[index],
        )

    @property
    def ratios(self) -> Floats:
        """What the row ratio gives for each patient alone, (patients, m, d); NaN for a unit that
        is on nowhere."""
        return _ratio(self.rows[..., :-1], self.rows[..., -1])


def head_gradient(
    network: FusionNetwork, shared: Sequence[str], vector: NDArray[np.floating]
) -> HeadGradient:
    """The classifier's part of a vector over the shared parameters, (P,)."""
    parts = named_parts(network, shared, vector)
    return HeadGradient(
        parts["classifier.hidden.weight"],
        parts["classifier.hidden.bias"],
        float(parts["classifier.output.bias"][0]),
    )


def named_parts(
    network: FusionNetwork, shared: Sequence[str], vector: NDArray[np.floating]
) -> Mapping[str, Floats]:
    """Name -> its part of a vector over the shared parameters, in the parameter's shape."""
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    sizes = [int(np.prod(shapes[name])) for name in shared]
    pieces = np.split(np.asarray(vector, np.float64), np.cumsum(sizes)[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(shared, pieces, strict=True)}


def row_ratio(gradient: HeadGradient) -> Floats:
    """x = dl/dW_i / dl/db_i for each hidden unit, (m, d); NaN where the bias gradient is 0."""
    return _ratio(gradient.weight, gradient.bias)


def _ratio(weight: Floats, bias: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = weight / bias[..., None]
    ratio[bias == 0] = np.nan
    return ratio


@torch.no_grad()
def signatures(network: FusionNetwork, tokens: PatientTensors) -> Signatures:
    """Signatures of patients under the network's present parameters; tokens from `tokens_of`."""
    parts = [tokens[start : start + CHUNK] for start in range(0, len(tokens), CHUNK)]
    found = [_signature(network, part) for part in parts]
    rows, logit = (torch.cat(each).double() for each in zip(*found, strict=True))
    label, weight, patient = tokens.label.double(), tokens.weight.double(), tokens.patient

    def summed(values: Tensor) -> Tensor:
        """(examples, ...) -> (patients, ...)."""
        return values.new_zeros(tokens.patients, *values.shape[1:]).index_add_(0, patient, values)

    slope = grad(task.loss)(logit, label, weight)  # (examples,) weighted residuals
    residual = summed(slope.square() / weight).sqrt()
    of_residual = slope / residual.clamp_min(SMALLEST)[patient]
    return Signatures(
        rows=summed(of_residual[:, None, None] * rows).numpy(),
        places=summed(weight[:, None, None] * rows).numpy(),
        residual=residual.numpy(),
        probability=summed(weight * torch.sigmoid(logit)).numpy(),
        label=summed(weight * label).numpy(),
    )


def _signature(network: FusionNetwork, tokens: PatientTensors) -> tuple[Tensor, Tensor]:
    """(n, m, d + 1), (n,): the docstring's s and t of examples, and the logits. Differentiable."""
    head, has_slice = network.classifier, tokens.real
    joined = network.fusion(tokens.images, tokens.present)
    before = head.hidden(joined)  # (n, slices, places, m)
    place = head.output(torch.relu(before)).squeeze(-1)  # (n, slices, places)
    place = place.masked_fill(~has_slice[..., None], -torch.inf).flatten(1)
    weights = torch.softmax(place, dim=1)[..., None]  # (n, slices * places, 1)
    on = (before > 0).to(weights.dtype).flatten(1, 2)
    x = torch.cat([joined, torch.ones_like(joined[..., :1])], dim=-1).flatten(1, 2)
    rows = (weights * on).transpose(1, 2) @ x  # (n, m, d + 1)
    count = has_slice.sum(1) * joined.shape[-2]
    return rows, torch.logsumexp(place, dim=1) - torch.log(count)


def signature_rows(network: FusionNetwork, tokens: PatientTensors) -> Tensor:
    """As `signatures`, with gradients towards the tokens; (n, m, d + 1)."""
    return _signature(network, tokens)[0]


@dataclass(frozen=True)
class LabelCount:
    """Positives in a batch, from the last bias.

    Attributes:
        estimate: at the mean predicted probability.
        lowest, highest: at the lowest and highest predicted probability of the reference patients.
    """

    estimate: float
    lowest: float
    highest: float


def label_count(residual_sum: float, batch: int, reference: Floats) -> LabelCount:
    """Positives among `batch` patients whose residuals sum to `residual_sum`.

    sum(sigmoid(logit) - label) = sum of predicted probabilities - positives, so the positives are
    the batch times a probability in the reference's range, less the sum (Geng et al. 2021 count
    labels in the same way). Exact only where all predictions are equal, as near the first round.

    Args:
        residual_sum: gradient of the last bias times the batch's divisor; unclipped, without noise.
        reference: predicted probabilities of patients the attacker knows, (n,).
    """

    def count(probability: float) -> float:
        return float(np.clip(batch * probability - residual_sum, 0, batch))

    return LabelCount(
        count(float(reference.mean())), count(float(reference.min())), count(float(reference.max()))
    )
