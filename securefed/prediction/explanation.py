"""Why a model says what it says of one example: which places, and where they looked.

The head scores places, and a patient's logit is a smooth maximum of the scores, so that what each
place adds is no estimate (`contributions`). What a place knows is less exact: its features come of
the encoder's whole receptive field, and of the context by attention, which is shown beside.

Attention says where values came from, not why the answer is what it is (Jain & Wallace 2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from securefed.data.samples import Images, Mask, Patient
from securefed.errors import DataError
from securefed.model.encoding import tokens_of
from securefed.model.patients import PatientTensors
from securefed.prediction.contributions import contributions
from securefed.prediction.model import ReleasedModel
from securefed.training.patients import kept_slices
from securefed.wording import listed

Floats = NDArray[np.float64]


@dataclass(frozen=True, order=True)
class Place:
    """A place of the feature map: slice of those that were looked at, row, column, from 0."""

    slice: int
    row: int
    column: int


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model made of one example.

    Attributes:
        example: its name; "" for the patient.
        group: the example as the network saw it.
        numbers: (slices,) of the patient's slices, those that were looked at, from 0.
        of_class: whose logit it is; "" for two labels.
        logit: of the example, float32 arithmetic.
        probability: the network's own, with several classes the softmax's.
        logits: (slices, side, side) of places, as the head scores them.
        contributions: (slices, side, side), which sum to the logit.
        place: the one that was asked, or that of the largest contribution.
        looked: by context, of each place of `place`'s slice the attention to each place of the
            context's, (side, side, side, side); without contexts that the slice lacks.
    """

    example: str
    group: PatientTensors = field(repr=False)
    numbers: NDArray[np.int64] = field(repr=False)
    of_class: str
    logit: float
    probability: float
    logits: Floats = field(repr=False)
    contributions: Floats = field(repr=False)
    place: Place
    looked: Mapping[str, Floats] = field(repr=False)

    @property
    def side(self) -> int:
        """Places along an edge of the image."""
        return int(self.logits.shape[-1])

    @property
    def attention(self) -> dict[str, Floats]:
        """Of `place`, by context: (side, side), which sums to 1."""
        return {name: each[self.place.row, self.place.column] for name, each in self.looked.items()}

    @property
    def modalities(self) -> tuple[str, ...]:
        """The query first."""
        return self.group.modalities

    def images_of(self, modality: str) -> Images:
        """(slices, size, size) as the network saw them."""
        return self.group.images[0, self.modalities.index(modality)].numpy()

    def present_of(self, modality: str) -> Mask:
        """(slices,) where it was acquired."""
        return self.group.present[0, self.modalities.index(modality)].numpy()


@torch.no_grad()
def explain(
    model: ReleasedModel,
    patient: Patient,
    example: str | None = None,
    *,
    at: tuple[int, int] | None = None,
    in_slice: int | None = None,
    of_class: str | None = None,
) -> Explanation:
    """What the model says of an example of a patient, and of which places.

    Args:
        example: its name; may be left out where there is one.
        at: row and column of the place whose attention is wanted, from 0; by default where the
            contribution is largest.
        in_slice: of the patient, from 0; by default where the contribution is largest.
        of_class: of a model of several classes, whose logit is explained; by default that of the
            likeliest.

    Raises:
        DataError: no such example, class or place, or a slice that the model did not look at.
    """
    row = _row_of(patient, example)
    group, chosen = model.stacked([patient]), patient.examples[row]
    numbers = kept_slices(chosen.slices, model.max_slices)
    group = group[row : row + 1].first_slices(len(numbers))
    tokens, network = tokens_of(model.network, group), model.network
    joined = network.fusion(tokens.images, tokens.present)
    answers = network.classifier(joined, tokens.present.any(dim=-2))[0]
    flat = network.classifier.places(joined)[0].double().numpy()  # (slices, places)
    number = _class_of(model, answers, of_class)
    if number is None:
        logit, probability = answers, answers.double().sigmoid()
    else:
        logit, probability = answers[number], answers.double().softmax(dim=0)[number]
        flat = flat[..., number]
    side = isqrt(flat.shape[-1])
    logits = flat.reshape(-1, side, side)
    added = contributions(logits.ravel()).reshape(logits.shape)
    place = _place(added, numbers, at, in_slice)
    weights = network.fusion.attention(tokens.images, tokens.present)
    there = dict(zip(group.modalities, group.present[0, :, place.slice].tolist(), strict=True))
    return Explanation(
        example=chosen.name,
        group=group,
        numbers=numbers,
        of_class="" if number is None else model.classes[number],
        logit=float(logit),
        probability=float(probability),
        logits=logits,
        contributions=added,
        place=place,
        looked={
            name: each[0, place.slice].double().numpy().reshape(4 * (side,))
            for name, each in weights.items()
            if there[name]
        },
    )


def _class_of(model: ReleasedModel, answers: Tensor, of_class: str | None) -> int | None:
    if of_class is not None and of_class not in model.classes:
        there = listed(list(model.classes)) if model.classes else "two labels, and one logit"
        raise DataError(f"the model has no class {of_class!r}", hint=f"it has {there}")
    if not model.classes:
        return None
    return int(answers.argmax()) if of_class is None else model.classes.index(of_class)


def _row_of(patient: Patient, example: str | None) -> int:
    names = [each.name for each in patient.examples]
    if example is None and len(names) == 1:
        return 0
    if example not in names:
        what = f"has no example {example!r}" if example is not None else "has several examples"
        raise DataError(
            f"this patient {what}; there are {listed(names[:20])}", hint="choose one by --example"
        )
    return names.index(example)


def _place(
    added: Floats, numbers: NDArray[np.int64], at: tuple[int, int] | None, in_slice: int | None
) -> Place:
    side = added.shape[-1]
    if in_slice is not None and in_slice not in numbers:
        looked_at = listed([str(number + 1) for number in numbers])
        raise DataError(
            f"the model did not look at slice {in_slice + 1} of this patient",
            hint=f"it looked at {looked_at}",
        )
    if at is not None and not all(0 <= each < side for each in at):
        raise DataError(
            f"there is no place {at[0] + 1} {at[1] + 1}: rows and columns go from 1 to {side}",
            hint="leave --place out for the place that adds most",
        )
    allowed = np.full(added.shape, -np.inf)
    chosen = (
        slice(None) if in_slice is None else numbers.tolist().index(in_slice),
        *(at or (slice(None), slice(None))),
    )
    allowed[chosen] = added[chosen]
    return Place(*map(int, np.unravel_index(int(allowed.argmax()), added.shape)))
