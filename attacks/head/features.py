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

A patient of several labelled examples has one gradient, the sum of theirs by weight, and of several
classes each has a logit with weights, places and a residual of its own (model.task). So in general
the patient's gradient is the sum of w r v_i (s_i, t_i) over examples and logits: a function of the
patient, of all its labels and of public parameters as before. The ratio mixes them, as exactly.

Reference: Phong et al. 2018, "Privacy-Preserving Deep Learning via Additively Homomorphic
Encryption", section 3; Geiping et al. 2020 (arXiv 2003.14053), proposition 3.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks import labels
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
        output_bias: of the last biases, (logits,): the sum of residuals over the batch, times its
            scale.
    """

    weight: Floats = field(repr=False)
    bias: Floats = field(repr=False)
    output_bias: Floats

    @property
    def rows(self) -> Floats:
        """Weights and bias side by side, (m, d + 1)."""
        return np.concatenate([self.weight, self.bias[:, None]], axis=1)


@dataclass(frozen=True, eq=False)
class Signatures:
    """Signatures of patients under given parameters.

    Attributes:
        rows: each hidden unit's gradient, in units of `residual`, (patients, m, d + 1).
        places: s and t as they are, the mean over examples and logits, (patients, m, d + 1).
        residual: root mean square of the examples' residuals, of all logits, (patients,).
        probability: of each logit's label, by the network, (patients, logits); of several examples
            the mean.
        label: (patients, logits), 0 or 1, whether it is true; of several examples the share.
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
        parts["classifier.output.bias"],
    )


def named_parts(
    network: FusionNetwork, shared: Sequence[str], vector: NDArray[np.floating]
) -> Mapping[str, Floats]:
    """Name -> its part of a vector over the shared parameters, in the parameter's shape."""
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    sizes = [int(np.prod(shapes[name])) for name in shared]
    pieces = np.split(np.asarray(vector, np.float64), np.cumsum(sizes)[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(shared, pieces, strict=True)}


def output_weight(network: FusionNetwork) -> Floats:
    """Of the first logit, (m,)."""
    weight: Floats = network.classifier.output.weight[0].detach().double().numpy()
    return weight


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
    slope = labels.residuals(logit, label, weight)  # (examples, logits), weighted

    def summed(values: Tensor) -> Tensor:
        """(examples, ...) -> (patients, ...)."""
        return values.new_zeros(tokens.patients, *values.shape[1:]).index_add_(0, patient, values)

    residual = summed(slope.square().sum(1) / weight).sqrt()
    through = slope / residual.clamp_min(SMALLEST)[patient, None]
    true = labels.shares(replace(tokens, label=label), logit.shape[1])
    return Signatures(
        rows=summed(_gradient(network, rows, through)).numpy(),
        places=summed(weight[:, None, None] * rows.mean(1)).numpy(),
        residual=residual.numpy(),
        probability=(true + summed(slope)).numpy(),
        label=true.numpy(),
    )


def _gradient(network: FusionNetwork, rows: Tensor, through: Tensor) -> Tensor:
    """The hidden layer's gradients, (n, m, d + 1), of (n, logits, m, d + 1) and residuals."""
    output = network.classifier.output.weight.to(rows.dtype)  # (logits, m)
    return torch.einsum("nl,lm,nlmd->nmd", through, output, rows)


def _signature(network: FusionNetwork, tokens: PatientTensors) -> tuple[Tensor, Tensor]:
    """(n, logits, m, d + 1), (n, logits): the docstring's s and t of examples, and their logits.

    Differentiable.
    """
    head, has_slice = network.classifier, tokens.real
    joined = network.fusion(tokens.images, tokens.present)
    before = head.hidden(joined)  # (n, slices, places, m)
    place = head.output(torch.relu(before))  # (n, slices, places, logits)
    place = place.masked_fill(~has_slice[..., None, None], -torch.inf).flatten(1, 2)
    weights = torch.softmax(place, dim=1)  # (n, slices * places, logits)
    on = (before > 0).to(weights.dtype).flatten(1, 2)
    x = torch.cat([joined, torch.ones_like(joined[..., :1])], dim=-1).flatten(1, 2)
    rows = torch.einsum("npl,npm,npd->nlmd", weights, on, x)
    count = has_slice.sum(1) * joined.shape[-2]
    return rows, torch.logsumexp(place, dim=1) - torch.log(count)[:, None]


def gradient_rows(network: FusionNetwork, tokens: PatientTensors) -> Tensor:
    """Each example's gradient of the hidden layer, (n, m, d + 1), differentiable in the tokens."""
    rows, logit = _signature(network, tokens)
    slope = labels.residuals(logit, tokens.label, torch.ones_like(tokens.label))
    return _gradient(network, rows, slope)


@dataclass(frozen=True)
class LabelCount:
    """Patients of each logit's label in a batch, from the last biases: positives, where it is one.

    Attributes:
        estimate: at the mean predicted probability, (logits,).
        lowest, highest: at the lowest and highest predicted probability of the reference patients.
    """

    estimate: Floats
    lowest: Floats
    highest: Floats


def label_count(residual_sum: Floats, batch: int, reference: Floats) -> LabelCount:
    """Patients of each label among `batch` whose residuals sum to `residual_sum`, (logits,).

    sum(probability - label) = sum of predicted probabilities - those who have it, so they are the
    batch times a probability in the reference's range, less the sum (Geng et al. 2021 count labels
    in the same way). Exact only where all predictions are equal, as near the first round.

    Args:
        residual_sum: gradient of the last bias times the batch's divisor; unclipped, without noise.
        reference: predicted probabilities of patients the attacker knows, (n, logits).
    """

    def count(probability: Floats) -> Floats:
        counted: Floats = np.clip(batch * probability - residual_sum, 0, batch)
        return counted

    return LabelCount(
        count(reference.mean(axis=0)), count(reference.min(axis=0)), count(reference.max(axis=0))
    )
