"""Gradients of fusion and classifier for many models and many patients at once, in closed form.

Shadow models differ in their parameters and see different patients, so the batch axis here is the
*instance*: one slice of one record under one model. Everything is a batched matrix product over
instances, features first (width, places), a layout in which small products are several times
faster than with places first. Chunks hold whole records and few enough slices that their attention
matrices stay in cache. Compared with automatic differentiation this skips padding slices, keeps no
graph and never visits the frozen encoders.

The network is `securefed.model.network`: cross-attention, two-layer classifier, log-mean-exp over
the places of an example. A change there must be repeated here; tests hold both to the same figures.
What an answer costs is `model.task`: a record's loss is the weighted sum over its examples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks import labels
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors, segments

HEAD = ("fusion.", "classifier.")
LIKE_OPACUS = 1e-6  # is added to a norm before it is divided by: a shadow clips as the product does
CHUNK = 1 << 19  # entries of the attention matrices and parameters held at once, 2 MB each


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
    def of(cls, network: FusionNetwork) -> "HeadShape":
        places, offset = {}, 0
        for name, parameter in network.named_parameters():
            if name.startswith(HEAD):
                places[name] = (offset, tuple(parameter.shape))
                offset += parameter.numel()
        return cls(places, offset)

    @property
    def logits(self) -> int:
        """One, of a tumour, or one for each class."""
        return self.places["classifier.output.bias"][1][0]

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
        modalities: what the second axis of tokens and mask is, the query first.
        tokens: (slices, modalities, width, places) float32.
        present: (slices, modalities) bool.
        first: (examples + 1,) where each example's slices begin; the last entry is their number.
        label: (examples,) float32, 0 or 1, or the number of a class.
        weight: (examples,) float32, of an example in its record's loss.
        examples: (records + 1,) where each record's examples begin; the last is their number.
        coordinates: (2, places) the grid of places, centred.
    """

    modalities: tuple[str, ...]
    tokens: Tensor = field(repr=False)
    present: Tensor = field(repr=False)
    first: Tensor = field(repr=False)
    label: Tensor = field(repr=False)
    weight: Tensor = field(repr=False)
    examples: Tensor = field(repr=False)
    coordinates: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.examples) - 1

    def with_tokens(self, more: PatientTensors) -> "Records":
        """These records, then others of one slice and one label each, which are tokens already."""
        further = 1 + torch.arange(len(more))
        return replace(
            self,
            tokens=torch.cat([self.tokens, more.images[:, :, 0].transpose(2, 3)]),
            present=torch.cat([self.present, more.present[:, :, 0]]),
            first=torch.cat([self.first, self.first[-1] + further]),
            label=torch.cat([self.label, more.label]),
            weight=torch.cat([self.weight, more.weight]),
            examples=torch.cat([self.examples, self.examples[-1] + further]),
        )

    def taken(self, rows: Tensor) -> tuple["Records", Tensor]:
        """Some of the records, repeated or not, and of which of `rows` each example is."""
        example, record = segments(self.examples, rows)
        slices, of = segments(self.first, example)
        some = replace(
            self,
            tokens=self.tokens[slices],
            present=self.present[slices],
            first=_begins(of, len(example)),
            label=self.label[example],
            weight=self.weight[example],
            examples=_begins(record, len(rows)),
        )
        return some, record


def records_of(tokens: PatientTensors, *, each_slice: bool) -> Records:
    """Encoded patients as records: a record is a patient or, with `each_slice`, one slice.

    Args:
        tokens: a patient's examples one after another, as `stack` and `concatenate` leave them.
    """
    real = tokens.real
    slice_of = torch.nonzero(real)[:, 0]  # (real slices,) the example of each
    label, weight, patient = tokens.label, tokens.weight, tokens.patient
    if each_slice:
        label, weight = label[slice_of], torch.ones_like(label[slice_of])
        patient = slice_of = torch.arange(len(slice_of))
    slices = tokens.images.transpose(1, 2)[real]  # (real slices, modalities, places, width)
    return Records(
        modalities=tokens.modalities,
        tokens=slices.transpose(2, 3).contiguous(),
        present=tokens.present.transpose(1, 2)[real],
        first=_begins(slice_of, len(label)),
        label=label,
        weight=weight,
        examples=_begins(patient, len(label) if each_slice else tokens.patients),
        coordinates=place_grid(slices.shape[2]),
    )


def _begins(of: Tensor, count: int) -> Tensor:
    """(count + 1,) where each begins whose numbers are in `of`, ascending; then where all end."""
    return F.pad(torch.bincount(of, minlength=count).cumsum(0), (1, 0))


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
        begins = records.first[records.examples]  # (records + 1,)
        slices = begins[self.record + 1] - begins[self.record]
        places = records.tokens.shape[-1]
        part = (slices.cumsum(0) - slices) * (places**2 + size) // CHUNK
        lengths = torch.unique_consecutive(part, return_counts=True)[1].tolist()
        pieces = zip(
            torch.split(self.model, lengths), torch.split(self.record, lengths), strict=True
        )
        yield from (Drawn(model, record) for model, record in pieces)


def losses(shape: HeadShape, vectors: Tensor, records: Records, drawn: Drawn) -> Tensor:
    """Each drawn record's loss under its model.  # (drawn,)"""
    views = shape.views(vectors)
    parts = [_Forward(views, records, part).losses() for part in drawn.chunks(records, shape.size)]
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
            rows = torch.where(norms.isfinite(), rows, 0.0)
            rows = rows * (clip_norm / (norms + LIKE_OPACUS)).clamp(max=1.0).nan_to_num(0.0)
        total.index_add_(0, part.model, rows)
    return total


class _Attention:
    """What one chunk's query finds in one context, and the way back.

    Shapes: n instances, w width, a attention width, p places.

    Args:
        query: (n, a, p), scaled.
        tokens: of the context, (n, w, p).
        missing: (m,) instances without it, mended by index; a mask would touch them all.
    """

    def __init__(
        self,
        name: str,
        weights: dict[str, Tensor],
        query: Tensor,
        tokens: Tensor,
        missing: Tensor,
        coordinates: Tensor,
    ) -> None:
        n, self.heads, places = query.shape
        self.name, self.tokens, self.missing = name, tokens, missing
        self.locality = weights[f"fusion.locality_{name}"][:, :, None]  # (n, 1, 1)
        # -|x - y|^2 = 2 x.y - |y|^2 - |x|^2, and the softmax over y ignores the last term: the
        # locality is three more rows of query and key, not a matrix to be added.
        grid = coordinates.expand(n, -1, -1)
        self.pull = torch.cat([2 * grid, -grid.new_ones(n, 1, places)], dim=1)  # (n, 3, p)
        self.query = torch.cat([query, self.pull * F.softplus(self.locality)], dim=1)
        square = grid.square().sum(1, keepdim=True)
        key = weights[f"fusion.key_{name}.weight"] @ tokens
        self.key = torch.cat([key, grid, square], dim=1)  # (n, a + 3, p)
        self.value = weights[f"fusion.value_{name}.weight"] @ tokens  # (n, a, p)
        scores = self.query.transpose(1, 2) @ self.key  # (n, p, p)
        self.attention = torch.softmax(scores, dim=-1)
        self.attended = self.value @ self.attention.transpose(1, 2)  # (n, a, p)
        self.attended[missing] = weights[f"fusion.missing_{name}"][missing, :, None]

    def back(self, through: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradients of the query (n, a, p), and of the context's parameters by name.

        Args:
            through: of what was attended to, (n, a, p); changed.
        """
        of_missing = through.new_zeros(len(through), through.shape[1])
        of_missing[self.missing] = through[self.missing].sum(2)
        through[self.missing] = 0.0  # nothing was attended to there
        of_attention = through.transpose(1, 2) @ self.value  # (n, p, p)
        of_value = through @ self.attention
        of_scores = torch.ops.aten._softmax_backward_data(
            of_attention, self.attention, -1, torch.float32
        )
        of_query = self.key @ of_scores.transpose(1, 2)  # (n, a + 3, p)
        of_key = self.query[:, : self.heads] @ of_scores  # (n, a, p)
        tokens = self.tokens.transpose(1, 2)
        of_strength = (of_query[:, self.heads :] * self.pull).sum((1, 2), keepdim=True)
        return of_query[:, : self.heads], {
            f"fusion.locality_{self.name}": of_strength * torch.sigmoid(self.locality),
            f"fusion.missing_{self.name}": of_missing,
            f"fusion.key_{self.name}.weight": of_key @ tokens,
            f"fusion.value_{self.name}.weight": of_value @ tokens,
        }


class _Forward:
    """One chunk through fusion and classifier, with what the backward pass needs.

    Shapes: as of _Attention, with c contexts, h hidden units, l logits, r records, e examples.
    """

    def __init__(self, views: dict[str, Tensor], records: Records, part: Drawn) -> None:
        example, self.record = segments(records.examples, part.record)  # (e,) of this chunk
        index, self.owner = segments(records.first, example)  # (n,), the example in this chunk
        self.records = len(part.record)
        self.label, self.weight = records.label[example], records.weight[example]
        self.model = part.model[self.record[self.owner]]
        self.weights = {name: view[self.model] for name, view in views.items()}
        missing = [torch.nonzero(~has[index]).squeeze(1) for has in records.present.unbind(1)]
        self.missing_query = f"fusion.missing_{records.modalities[0]}"
        self.no_query = missing[0]
        self.own = records.tokens[index, 0]  # (n, w, p)
        self.own[self.no_query] = self.weights[self.missing_query][self.no_query, :, None]
        projection = self.weights["fusion.query.weight"]
        self.scale = projection.shape[1] ** -0.5
        query = projection @ self.own * self.scale
        self.contexts = [
            _Attention(
                name,
                self.weights,
                query,
                records.tokens[index, number],
                missing[number],
                records.coordinates,
            )
            for number, name in enumerate(records.modalities[1:], start=1)
        ]
        attended = [context.attended for context in self.contexts]
        self.joined = torch.cat([self.own, *attended], dim=1)  # (n, w + c a, p)
        self._classify(torch.bincount(self.owner, minlength=len(example)))

    def losses(self) -> Tensor:
        """The records' losses, (r,)."""
        each = labels.losses(self.logit, self.label, self.weight)  # (e,)
        return each.new_zeros(self.records).index_add_(0, self.record, each)

    def of_places(self) -> Tensor:
        """What the records' losses change by with the logits of places, (n, l, p)."""
        residual = labels.residuals(self.logit, self.label, self.weight)  # (e, l)
        return self.share * residual[self.owner, :, None]

    def _classify(self, counts: Tensor) -> None:
        """Args: counts: (e,) slices of each example."""
        weights = self.weights
        bias = weights["classifier.hidden.bias"][:, :, None]
        self.hidden = torch.relu(
            torch.baddbmm(bias, weights["classifier.hidden.weight"], self.joined)
        )  # (n, h, p)
        bias = weights["classifier.output.bias"][:, :, None]
        place = torch.baddbmm(bias, weights["classifier.output.weight"], self.hidden)  # (n, l, p)
        # Log-mean-exp over the places of each example, stable, in segments.
        largest = place.amax(2)  # (n, l)
        top = place.new_full((len(counts), place.shape[1]), -math.inf)
        top.scatter_reduce_(0, self.owner[:, None].expand_as(largest), largest, "amax")
        exponential = torch.exp(place - top[self.owner, :, None])
        mass = torch.zeros_like(top).index_add_(0, self.owner, exponential.sum(2))
        self.share = exponential / mass[self.owner, :, None]  # (n, l, p): d logit / d place
        size = torch.log(counts * float(place.shape[2]))
        self.logit = top + mass.log() - size[:, None]  # (e, l)


def _gradients(shape: HeadShape, views: dict[str, Tensor], records: Records, part: Drawn) -> Tensor:
    """As `gradients`, of one chunk."""
    f = _Forward(views, records, part)
    weights = f.weights
    of_place = f.of_places()  # (n, l, p)
    of_hidden = weights["classifier.output.weight"].transpose(1, 2) @ of_place  # (n, h, p)
    of_hidden = torch.ops.aten.threshold_backward(of_hidden, f.hidden, 0)
    of_joined = weights["classifier.hidden.weight"].transpose(1, 2) @ of_hidden
    width, heads = f.own.shape[1], len(weights["fusion.query.weight"][0])
    of_own, *throughs = of_joined.split([width, *(heads for _ in f.contexts)], dim=1)
    found = [context.back(part) for context, part in zip(f.contexts, throughs, strict=True)]
    projected = sum(of_query for of_query, _ in found) * f.scale  # (n, a, p)
    of_missing = of_own.new_zeros(len(of_own), width)
    of_missing[f.no_query] = of_own[f.no_query].sum(2) + (
        weights["fusion.query.weight"][f.no_query].transpose(1, 2) @ projected[f.no_query]
    ).sum(2)
    each = {
        f.missing_query: of_missing,
        "fusion.query.weight": projected @ f.own.transpose(1, 2),
        "classifier.hidden.weight": of_hidden @ f.joined.transpose(1, 2),
        "classifier.hidden.bias": of_hidden.sum(2),
        "classifier.output.weight": of_place @ f.hidden.transpose(1, 2),
        "classifier.output.bias": of_place.sum(2),
    }
    for _, of_context in found:
        each |= of_context
    flat = torch.cat([each[name].flatten(1) for name in shape.places], dim=1)  # (n, size)
    return flat.new_zeros(f.records, shape.size).index_add_(0, f.record[f.owner], flat)
