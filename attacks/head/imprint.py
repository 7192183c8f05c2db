"""Imprint parameters: what a malicious server can send that every client must accept.

Robbing the Fed (Fowl et al. 2022) adds a layer whose rows are all equal and whose biases sort the
inputs into bins: the difference of neighbouring rows' gradients then holds only the inputs of one
bin. Adding a layer changes the architecture, which clients refuse. Here the *existing* hidden layer
of the classifier takes the part, with weights of ordinary size:

    unit 0        the measurement itself, always on; its output weight makes the pooling prefer the
                  place where it is largest, so that a patient enters mostly with one place
    units 1..m-1  the same measurement, on above rising thresholds: m - 1 bins

The thresholds are quantiles of a patient's largest measurement over reference patients, such that
each bin expects one patient of the batch; of large batches only the highest patients have a bin.
Where a patient has several labelled examples, each enters with a place, and a bin expects one. Of
several classes only the first one's logit looks at the units: residuals of all cancel.
The measurement is the direction in which reference patients' places vary most.

LOKI (Zhao et al. 2023) sends a layer of its own to each client, so that a sum over clients keeps
their parts apart. Here that is two vectors: the imprint to the victim, and to all others one whose
hidden units are never on (`silenced`): the sum's hidden gradient is the victim's alone. No client
can tell, since none sees what the others got.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from attacks.head.features import Floats, HeadGradient, Signatures
from securefed.exposure import Vector
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.sharing import flatten

GAIN = 3.0  # of unit 0 per standard deviation of the measurement: sharper pooling saturates logits
BIN_WEIGHT = 0.1  # output weight of a bin: small beside unit 0's, large beside float32 rounding
LEAST_SHARE = 0.02  # of a patient's pooling weight in a bin, to be looked for there
QUIET = 0.005  # length of a row, of about 0.4 in a network: from one imprint to the next is no step
OFF = 1000.0  # bias that no joined feature overcomes, well inside what clients accept


@torch.no_grad()
def imprint(network: FusionNetwork, reference: PatientTensors, batch: int) -> FusionNetwork:
    """The network with an imprinting head; fusion and encoders as they were.

    Args:
        reference: tokens of patients that the server knows.
        batch: patients expected in one gradient.
    """
    changed = copy.deepcopy(network)
    head = changed.classifier
    present = reference.real
    joined = changed.fusion(reference.images, reference.present)
    direction = _widest(joined[present].flatten(0, 1))  # (d,)
    measured = (joined @ direction).flatten(2)  # (patients, slices, places)
    head.hidden.weight.copy_(direction.expand_as(head.hidden.weight))
    head.hidden.bias[1:] = -_thresholds(measured, reference, len(head.hidden.bias) - 1, batch)
    # On for every place, those of patients outside the reference included.
    head.hidden.bias[0] = 1 - 2 * measured[present].min() + measured[present].max()
    head.output.weight.zero_()
    head.output.weight[0] = BIN_WEIGHT
    head.output.weight[0, 0] = GAIN
    head.output.bias.zero_()
    # Probabilities around one half have the largest residuals, of both labels.
    logits = head(joined, present).view(len(reference), -1)
    even = math.log(max(1, logits.shape[1] - 1))
    head.output.bias[0] = even - logits[:, 0].median()
    return changed


@torch.no_grad()
def quiet_imprint(
    network: FusionNetwork, reference: PatientTensors, batch: int, number: int
) -> FusionNetwork:
    """One of a row of imprints that are as near to the network, and to each other, as can be.

    A unit's gradient does not depend on how long its row is, only on where it is on: rows of QUIET
    length, with unit 0 and the output left alone, sort places just as well. The pooling then
    prefers no place, and a patient enters with many.

    Args:
        reference, batch: as of `imprint`.
        number: from 0; each has a direction of its own, either way along it.
    """
    changed = copy.deepcopy(network)
    head = changed.classifier
    present = reference.real
    joined = changed.fusion(reference.images, reference.present)
    direction = _widest(joined[present].flatten(0, 1), number // 2) * (-1) ** number
    direction *= QUIET / direction.norm()
    measured = (joined @ direction).flatten(2)
    head.hidden.weight[1:] = direction
    head.hidden.bias[1:] = -_thresholds(measured, reference, len(head.hidden.bias) - 1, batch)
    return changed


def _thresholds(
    measured: torch.Tensor, reference: PatientTensors, bins: int, batch: int
) -> torch.Tensor:
    """Rising, (bins,): of the largest of each example's (examples, slices, places), one a bin."""
    largest = measured.masked_fill(~reference.real[..., None], -torch.inf).amax((1, 2))
    expected = round(batch * len(reference) / reference.patients)
    levels = 1 - (bins - torch.arange(bins)) / max(expected, bins)
    return torch.quantile(largest, levels.to(largest.dtype))


def _widest(places: torch.Tensor, number: int = 0) -> torch.Tensor:
    """Direction of largest variance of the standardised features, one unit of spread long.

    Args:
        number: so many directions are wider; they begin anew after the last.
    """
    deviation = places.std(0).clamp_min(1e-6)
    standard = (places - places.mean(0)) / deviation
    directions = torch.linalg.eigh(standard.T @ standard).eigenvectors
    direction = directions[:, -1 - number % directions.shape[1]] / deviation
    scaled: torch.Tensor = direction / (places @ direction).std().clamp_min(1e-6)
    return scaled


@torch.no_grad()
def silenced(network: FusionNetwork) -> FusionNetwork:
    """The network with all hidden units of the classifier off: their gradient is exactly zero."""
    changed = copy.deepcopy(network)
    changed.classifier.hidden.weight.zero_()
    changed.classifier.hidden.bias.fill_(-OFF)
    return changed


def vector_of(network: FusionNetwork, shared: Sequence[str]) -> Vector:
    """The shared parameters as they would be sent, (P,)."""
    return flatten(dict(network.named_parameters()), list(shared))


@dataclass(frozen=True, eq=False)
class Bins:
    """A gradient or signatures of an imprinting head, by bin; m - 1 bins of d features.

    Attributes:
        feature: weighted mean feature in each bin, (..., m - 1, d); NaN in an empty bin.
        weight: the mean's divisor, (..., m - 1).
    """

    feature: Floats = field(repr=False)
    weight: Floats = field(repr=False)


def bins_of_gradient(
    gradient: HeadGradient, output_weight: Floats, faintest: float | Floats
) -> Bins:
    """What the server reads in each bin; bins of less weight than `faintest` are empty.

    Args:
        faintest: of all bins, or of each, (m - 1,).
    """
    return _bins(gradient.rows / output_weight[:, None], faintest)


def bins_of_patients(
    known: Signatures, output_weight: Floats, least_share: float = LEAST_SHARE
) -> Bins:
    """What the server would read of each patient alone."""
    return _bins(known.rows / output_weight[:, None], least_share)


def _bins(rows: Floats, faintest: float | Floats) -> Bins:
    upper = np.concatenate([rows[..., 2:, :], np.zeros_like(rows[..., :1, :])], axis=-2)
    inside = rows[..., 1:, :] - upper  # (..., m - 1, d + 1)
    weight = inside[..., -1]
    kept = np.where(np.abs(weight) > faintest, weight, np.nan)
    return Bins(inside[..., :-1] / kept[..., None], weight)


def distances(seen: Bins, candidates: Bins, spread: Floats) -> Floats:
    """How far each candidate is from what was read, in its nearest bin, (candidates,).

    Root mean square difference in units of `spread` (m - 1, d); infinite without a common bin.
    """
    squares = (((candidates.feature - seen.feature) / spread) ** 2).mean(axis=-1)
    nearest: Floats = np.sqrt(np.where(np.isnan(squares), np.inf, squares).min(axis=-1))
    return nearest
