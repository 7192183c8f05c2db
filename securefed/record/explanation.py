"""explanation.json: which places of a patient's scans made a model's answer, and where they looked.

About one patient: it stays in the hospital.
"""

from typing import ClassVar

import msgspec

from securefed.record.json_file import SCHEMA, JsonFile, Schema


class Place(msgspec.Struct, frozen=True):
    """A place of the feature map, all counted from 1.

    Attributes:
        slice: of the patient's.
        row, column: from the top and from the left of the picture.
    """

    slice: int
    row: int
    column: int


class Drawn(msgspec.Struct, frozen=True):
    """A picture beside the file, and what it shows."""

    file: str
    title: str
    caption: str


class Fusion(msgspec.Struct, frozen=True):
    """What a fused picture of the query and a context keeps of both.

    Attributes:
        way: "attention" or "Laplacian pyramid".
        mutual_information: bits, with the one plus with the other.
        similarity: mean structural similarity, -1 to 1.
        edges_kept: Q^{AB/F}, 0 to .975.
    """

    context: str
    way: str
    mutual_information: float
    similarity: float
    edges_kept: float


class ExplanationFile(msgspec.Struct, JsonFile, frozen=True, kw_only=True):
    """What a model made of one example.

    Attributes:
        model: SHA-256 of the model's file, as predictions have it.
        cautions: why the model is not to be used on patients; empty where nothing speaks against.
        patient, example, site: as in the manifest.
        unlike: how its scans are unlike those of the training, in words; "" where they are not,
            null where the model does not know what those look like.
        modalities: of the model, the query first.
        missing: those that no slice of the example has.
        of_class: of several classes, the one that is explained; "" for two labels.
        logit: of the example; `probability` is its sigmoid, or with several classes the softmax's,
            as the network gives it.
        calibrated, calibrated_ci95: the same by the model's temperature, and its 95% interval; null
            where it has none.
        slices: those that were looked at, counted from 1.
        first_centre, centre_step: where places lie, along rows and along columns: the centre of the
            first one and the distance of two, pixels of a picture of `image_size`.
        contributions: by slice, row and column, what each place adds to the logit; their sum is it.
        place: the one whose attention is shown.
        attention: by context, how that place's attention is shared out over rows and columns; no
            context that its slice lacks.
        checks: by method, Spearman's correlation with contributions over the places of the slice of
            `place`; null where one of both is the same everywhere, empty where nobody asked.
        fusions: of that slice; empty where nobody asked, or a modality is missing.
    """

    NAME: ClassVar[str] = "explanation.json"

    model: str
    cautions: tuple[str, ...]
    patient: str
    example: str
    site: str
    unlike: str | None
    modalities: tuple[str, ...]
    missing: tuple[str, ...]
    of_class: str
    logit: float
    probability: float
    calibrated: float | None
    calibrated_ci95: tuple[float, float] | None
    slices: tuple[int, ...]
    image_size: int
    first_centre: float
    centre_step: float
    contributions: list[list[list[float]]]
    place: Place
    attention: dict[str, list[list[float]]]
    checks: dict[str, float | None]
    fusions: tuple[Fusion, ...]
    pictures: tuple[Drawn, ...]
    schema: Schema = SCHEMA
