"""Gradients of fusion and classifier for many models and many patients at once, in closed form.

Shadow models differ in their parameters and see different patients, so the batch axis here is the
*instance*: one slice of one record under one model. Everything is a batched matrix product over
instances, features first (width, places), a layout in which small products are several times
faster than with places first. Chunks hold whole records and few enough slices that their attention
matrices stay in cache. Compared with automatic differentiation this skips padding slices, keeps no
graph and never visits the frozen encoders.

The network is `securefed.model.network`: cross-attention, two-layer classifier, log-mean-exp over
the places of a record. A change there must be repeated here; tests hold both to the same figures.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.parallel import Step, side_by_side
from securefed.model.network import DualEncoderNetwork
from securefed.model.patients import PatientTensors

HEAD = ("fusion.", "classifier.")
CHUNK = 1 << 19  # entries of the attention matrices and parameters held at once, 2 MB each
ENCODE_CHUNK = 16  # patients encoded at a time


@dataclass(frozen=True)
class HeadShape:
    """Where each parameter of fusion and classifier lies in a head vector, in the network's order.

    Attributes:
        places: name -> (first entry, shape).
        size: entries of the whole vector.
    """

    places: dict[str, tuple[int, tuple[int, ...]]]
    size: int

    @classmethod
    def of(cls, network: DualEncoderNetwork) -> "HeadShape":
        places, offset = {}, 0
        for name, parameter in network.named_parameters():
            if name.startswith(HEAD):
                places[name] = (offset, tuple(parameter.shape))
                offset += parameter.numel()
        return cls(places, offset)

    def views(self, vectors: Tensor) -> dict[str, Tensor]:
        """(models, size) -> name -> (models, *shape), without copying."""
        return {
            name: vectors[:, start : start + math.prod(shape)].view(len(vectors), *(shape or (1,)))
            for name, (start, shape) in self.places.items()
        }


@dataclass(frozen=True)
class Records:
    """Records as tokens of the frozen encoders, real slices only, one after another.

    Attributes:
        ct, mri: (slices, width, places) float32.
        has_ct, has_mri: (slices,) bool.
        first: (records + 1,) where each record's slices begin; the last entry is their number.
        label: (records,) float32, 0 or 1.
        coordinates: (2, places) the grid of places, centred.
    """

    ct: Tensor = field(repr=False)
    mri: Tensor = field(repr=False)
    has_ct: Tensor = field(repr=False)
    has_mri: Tensor = field(repr=False)
    first: Tensor = field(repr=False)
    label: Tensor = field(repr=False)
    coordinates: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.label)

    def with_tokens(self, more: PatientTensors) -> "Records":
        """These records, then others of one slice each, which are tokens already."""
        first = self.first[-1] + 1 + torch.arange(len(more))
        return replace(
            self,
            ct=torch.cat([self.ct, more.ct[:, 0].transpose(1, 2)]),
            mri=torch.cat([self.mri, more.mri[:, 0].transpose(1, 2)]),
            has_ct=torch.cat([self.has_ct, more.has_ct[:, 0]]),
            has_mri=torch.cat([self.has_mri, more.has_mri[:, 0]]),
            first=torch.cat([self.first, first]),
            label=torch.cat([self.label, more.label]),
        )


def encoded_records(
    network: DualEncoderNetwork, patients: PatientTensors, *, each_slice: bool
) -> Records:
    """Encode patients once; a record is a patient or, with `each_slice`, one of its slices."""
    network.eval()
    starts = range(0, len(patients), ENCODE_CHUNK)

    def part(start: int, told: Step) -> tuple[Tensor, Tensor]:
        told()
        return _tokens(network, patients[start : start + ENCODE_CHUNK])

    parts = side_by_side(part, starts, steps=1, progress=lambda _: None)
    ct, mri = (torch.cat(tokens) for tokens in zip(*parts, strict=True))
    real = patients.has_ct | patients.has_mri
    counts = real.sum(1)
    label = patients.label
    if each_slice:
        label = label.repeat_interleave(counts)
        counts = torch.ones_like(label, dtype=torch.long)
    return Records(
        ct=ct,
        mri=mri,
        has_ct=patients.has_ct[real],
        has_mri=patients.has_mri[real],
        first=F.pad(counts.cumsum(0), (1, 0)),
        label=label,
        coordinates=place_grid(ct.shape[-1]),
    )


@torch.no_grad()
def _tokens(network: DualEncoderNetwork, part: PatientTensors) -> tuple[Tensor, Tensor]:
    """CT and MRI tokens of the real slices.  # (real slices, width, places) twice"""
    real = part.has_ct | part.has_mri  # (patients, slices)
    ct, mri = network.encode(part.ct[real].float() / 255, part.mri[real].float() / 255)
    return ct.transpose(1, 2).contiguous(), mri.transpose(1, 2).contiguous()


def place_grid(places: int) -> Tensor:
    """The place grid of the fusion, centred: squared distances lose less to rounding.  # (2, n)"""
    side = math.isqrt(places)
    axis = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    return torch.cartesian_prod(axis, axis).T.contiguous()


@dataclass(frozen=True)
class Drawn:
    """Which model sees which record; any number of records per model.

    Attributes:
        model, record: (drawn,) indices.
    """

    model: Tensor = field(repr=False)
    record: Tensor = field(repr=False)

    def chunks(self, records: Records, size: int) -> Iterator["Drawn"]:
        """Parts of about CHUNK entries of attention and parameters, whole records each."""
        if not len(self.record):
            return
        slices = records.first[self.record + 1] - records.first[self.record]
        places = records.ct.shape[-1]
        part = (slices.cumsum(0) - slices) * (places**2 + size) // CHUNK
        lengths = torch.unique_consecutive(part, return_counts=True)[1].tolist()
        pieces = zip(
            torch.split(self.model, lengths), torch.split(self.record, lengths), strict=True
        )
        yield from (Drawn(model, record) for model, record in pieces)


def losses(shape: HeadShape, vectors: Tensor, records: Records, drawn: Drawn) -> Tensor:
    """Cross-entropy of each drawn record under its model.  # (drawn,)"""
    views = shape.views(vectors)
    parts = [
        F.binary_cross_entropy_with_logits(
            _Forward(views, records, part).logit, records.label[part.record], reduction="none"
        )
        for part in drawn.chunks(records, shape.size)
    ]
    return torch.cat(parts) if parts else vectors.new_zeros(0)


def gradients(shape: HeadShape, vectors: Tensor, records: Records, drawn: Drawn) -> Tensor:
    """Gradient of each drawn record's loss with respect to its model's head.  # (drawn, size)"""
    views = shape.views(vectors)
    parts = [_gradients(shape, views, records, part) for part in drawn.chunks(records, shape.size)]
    return torch.cat(parts) if parts else vectors.new_zeros(0, shape.size)


def summed_gradients(
    shape: HeadShape, vectors: Tensor, records: Records, drawn: Drawn, clip_norm: float | None
) -> Tensor:
    """Each model's sum over its drawn records, each clipped as DP-SGD does.  # (models, size)

    A record with a gradient that is not finite counts zero, as in training.private.

    Args:
        clip_norm: None leaves gradients as they are.
    """
    views = shape.views(vectors)
    total = torch.zeros_like(vectors)
    for part in drawn.chunks(records, shape.size):
        rows = _gradients(shape, views, records, part)
        if clip_norm is not None:
            norms = rows.norm(dim=1, keepdim=True)
            # Opacus adds 1e-6 to the norm; a shadow clips as the product does.
            rows = torch.where(norms.isfinite(), rows, 0.0)
            rows = rows * (clip_norm / (norms + 1e-6)).clamp(max=1.0).nan_to_num(0.0)
        total.index_add_(0, part.model, rows)
    return total


class _Forward:
    """One chunk through fusion and classifier, with what the backward pass needs.

    Shapes: n instances, w width, a attention width, h hidden units, p places, r records.
    """

    def __init__(self, views: dict[str, Tensor], records: Records, part: Drawn) -> None:
        start, end = records.first[part.record], records.first[part.record + 1]
        counts = end - start
        self.owner = torch.repeat_interleave(counts)  # (n,) record in this chunk
        self.model = part.model[self.owner]
        offset = torch.arange(len(self.owner)) - (counts.cumsum(0) - counts)[self.owner]
        index = start[self.owner] + offset
        self.weights = {name: view[self.model] for name, view in views.items()}
        # The few instances that lack a modality are mended by index; masks would touch them all.
        self.no_ct = torch.nonzero(~records.has_ct[index]).squeeze(1)
        self.no_mri = torch.nonzero(~records.has_mri[index]).squeeze(1)
        self.mri = records.mri[index]  # (n, w, p)
        self.ct = records.ct[index]
        self.ct[self.no_ct] = self.weights["fusion.missing_ct"][self.no_ct, :, None]
        self.coordinates = records.coordinates
        self._attend()
        self._classify(counts)

    def _attend(self) -> None:
        weights, (n, _, places) = self.weights, self.ct.shape
        query = weights["fusion.query.weight"]
        self.scale = query.shape[1] ** -0.5
        self.strength = F.softplus(weights["fusion.locality"])[:, :, None]  # (n, 1, 1)
        # -|x - y|^2 = 2 x.y - |y|^2 - |x|^2, and the softmax over y ignores the last term: the
        # locality is three more rows of query and key, not a matrix to be added.
        grid = self.coordinates.expand(n, -1, -1)
        ones = grid.new_ones(n, 1, places)
        self.pull = torch.cat([2 * grid, -ones], dim=1)  # (n, 3, p)
        self.query = torch.cat([query @ self.ct * self.scale, self.pull * self.strength], dim=1)
        square = grid.square().sum(1, keepdim=True)
        key = weights["fusion.key.weight"] @ self.mri
        self.key = torch.cat([key, grid, square], dim=1)  # (n, a + 3, p)
        self.value = weights["fusion.value.weight"] @ self.mri  # (n, a, p)
        scores = self.query.transpose(1, 2) @ self.key  # (n, p, p)
        self.attention = torch.softmax(scores, dim=-1)
        attended = self.value @ self.attention.transpose(1, 2)  # (n, a, p)
        attended[self.no_mri] = weights["fusion.missing_mri"][self.no_mri, :, None]
        self.joined = torch.cat([self.ct, attended], dim=1)  # (n, w + a, p)

    def _classify(self, counts: Tensor) -> None:
        weights = self.weights
        bias = weights["classifier.hidden.bias"][:, :, None]
        self.hidden = torch.relu(
            torch.baddbmm(bias, weights["classifier.hidden.weight"], self.joined)
        )  # (n, h, p)
        output = weights["classifier.output.weight"]  # (n, 1, h)
        place = (output @ self.hidden).squeeze(1) + weights["classifier.output.bias"]  # (n, p)
        # Log-mean-exp over the places of each record, stable, in segments.
        top = place.new_full((len(counts),), -math.inf)
        top.scatter_reduce_(0, self.owner, place.amax(1), "amax")
        exponential = torch.exp(place - top[self.owner, None])
        mass = torch.zeros_like(top).index_add_(0, self.owner, exponential.sum(1))
        self.share = exponential / mass[self.owner, None]  # (n, p): d logit / d place
        self.logit = top + mass.log() - torch.log(counts * float(place.shape[1]))  # (r,)


def _gradients(shape: HeadShape, views: dict[str, Tensor], records: Records, part: Drawn) -> Tensor:
    """As `gradients`, of one chunk."""
    f = _Forward(views, records, part)
    weights = f.weights
    residual = torch.sigmoid(f.logit) - records.label[part.record]  # (r,): d loss / d logit
    share = f.share[:, None]  # (n, 1, p)
    of_hidden = weights["classifier.output.weight"].transpose(1, 2) * share  # (n, h, p)
    of_hidden = torch.ops.aten.threshold_backward(of_hidden, f.hidden, 0)
    of_joined = weights["classifier.hidden.weight"].transpose(1, 2) @ of_hidden
    width = f.ct.shape[1]
    of_ct, through = of_joined[:, :width], of_joined[:, width:]
    of_missing_mri = through.new_zeros(len(through), through.shape[1])
    of_missing_mri[f.no_mri] = through[f.no_mri].sum(2)
    through[f.no_mri] = 0.0  # nothing was attended to there  # (n, a, p)
    of_attention = through.transpose(1, 2) @ f.value  # (n, p, p)
    of_value = through @ f.attention
    of_scores = torch.ops.aten._softmax_backward_data(of_attention, f.attention, -1, torch.float32)
    of_query = f.key @ of_scores.transpose(1, 2)  # (n, a + 3, p)
    heads = f.value.shape[1]
    of_key = f.query[:, :heads] @ of_scores  # (n, a, p)
    projected = of_query[:, :heads] * f.scale
    of_missing_ct = of_ct.new_zeros(len(of_ct), width)
    of_missing_ct[f.no_ct] = of_ct[f.no_ct].sum(2) + (
        weights["fusion.query.weight"][f.no_ct].transpose(1, 2) @ projected[f.no_ct]
    ).sum(2)
    tokens = f.mri.transpose(1, 2)
    each = {
        "fusion.locality": (of_query[:, heads:] * f.pull).sum((1, 2), keepdim=True)
        * torch.sigmoid(weights["fusion.locality"])[:, :, None],
        "fusion.missing_ct": of_missing_ct,
        "fusion.missing_mri": of_missing_mri,
        "fusion.query.weight": projected @ f.ct.transpose(1, 2),
        "fusion.key.weight": of_key @ tokens,
        "fusion.value.weight": of_value @ tokens,
        "classifier.hidden.weight": of_hidden @ f.joined.transpose(1, 2),
        "classifier.hidden.bias": of_hidden.sum(2),
        "classifier.output.weight": share @ f.hidden.transpose(1, 2),
        "classifier.output.bias": share.sum(2),
    }
    flat = torch.cat([each[name].flatten(1) for name in shape.places], dim=1)  # (n, size)
    rows = flat.new_zeros(len(part.record), shape.size).index_add_(0, f.owner, flat)
    return rows * residual[:, None]
