"""An explanation as it is written down: explanation.json, and the pictures that it names."""

from collections.abc import Mapping

import numpy as np

from securefed.data.samples import Patient
from securefed.model.place_grid import place_grid
from securefed.prediction.cross_check import agreement
from securefed.prediction.explanation import Explanation
from securefed.prediction.explanation_pictures import (
    fused_picture,
    place_picture,
    slices_picture,
)
from securefed.prediction.fused import fusions
from securefed.prediction.model import ReleasedModel
from securefed.record.explanation import Drawn, ExplanationFile, Fusion, Place
from securefed.wording import listed


def explained(
    model: ReleasedModel, patient: Patient, shown: Explanation, *, fused: bool, check: bool
) -> tuple[ExplanationFile, Mapping[str, bytes]]:
    """The file, and the PNGs by name.

    Args:
        patient: whose explanation it is.
        fused: draw the query and each context in one picture too.
        check: compare with captum's attributions.

    Raises:
        ConfigurationError: `check` needs captum, and it is not installed.
    """
    grid = place_grid(model.network)
    numbers = [int(number) + 1 for number in shown.numbers]
    place = Place(numbers[shown.place.slice], shown.place.row + 1, shown.place.column + 1)
    where = f"row {place.row}, column {place.column} of slice {place.slice}"
    contexts = [name.upper() for name in shown.attention]
    looked = (
        f"where it looked in {listed(contexts)}" if contexts else "no context, as there is none"
    )
    drawn = [
        Drawn(
            "slices.png",
            "Every slice",
            "Columns are slices, rows modalities (black: not acquired) and what each place adds. "
            f"The slice in the yellow frame is number {place.slice}.",
        ),
        Drawn(
            "place.png",
            "One place",
            f"The ring is {where}: what its slice adds, and {looked}.",
        ),
    ]
    pictures = {"slices.png": slices_picture(shown, grid), "place.png": place_picture(shown, grid)}
    pairs = fusions(shown, grid) if fused else {}
    if pairs:
        pictures["fused.png"] = fused_picture(shown.modalities[0], pairs)
        drawn.append(
            Drawn(
                "fused.png",
                "Fused",
                f"Slice {place.slice}: the query in grey with the context in colour, as each place "
                "of the query attends to it; the mean of both, and their Laplacian pyramids fused.",
            )
        )
    calibrated = _calibrated(model, shown.logit)
    about = ExplanationFile(
        model=model.digest,
        cautions=model.cautions,
        patient=patient.patient_id,
        example=shown.example,
        site=patient.site,
        unlike=model.reference.unlike(shown.group)[0] if model.reference else None,
        modalities=shown.modalities,
        missing=tuple(name for name in shown.modalities if not shown.present_of(name).any()),
        logit=shown.logit,
        of_class=shown.of_class,
        probability=shown.probability,
        calibrated=calibrated[0] if calibrated else None,
        calibrated_ci95=calibrated[1:] if calibrated else None,
        slices=tuple(numbers),
        image_size=model.image_size,
        first_centre=grid.first,
        centre_step=grid.step,
        contributions=shown.contributions.tolist(),
        place=place,
        attention={name: each.tolist() for name, each in shown.attention.items()},
        checks=agreement(model, shown, grid) if check else {},
        fusions=tuple(
            Fusion(name, each.name, each.mutual_information, each.similarity, each.edges_kept)
            for name, pair in pairs.items()
            for each in pair.ways
        ),
        pictures=tuple(drawn),
    )
    return about, pictures


def _calibrated(model: ReleasedModel, logit: float) -> tuple[float, float, float] | None:
    """A probability and the ends of its interval; None where nothing calibrates the model."""
    if model.temperature is None:
        return None
    middle, low, high = model.temperature.probabilities(np.array([logit]))
    return float(middle[0]), float(low[0]), float(high[0])
