"""What travels with a model that is handed on: what goes in and comes out, and why not to use it.

Everything is text by name, the same in every format: `securefed-about` is what the model's own file
says of itself, word for word, and the rest is said so that no program of ours is needed to read it.
"""

import json

from securefed import __version__
from securefed.data.harmonisation import CALIBRATED, standard
from securefed.errors import RunError
from securefed.model_card.words import in_words
from securefed.prediction.model import ReleasedModel
from securefed.record.model_card import ModelCard
from securefed.wording import listed

CLASSES = ("no tumour", "tumour")  # of a model of one logit, which is the second's


def require_usable(model: ReleasedModel) -> None:
    """Refuse a model that its own file says is not to be used.

    Raises:
        RunError: so it is; every reason is named.
    """
    if model.cautions:
        raise RunError(
            f"this model is not to be used on patients: {listed(model.cautions)}",
            hint="--anyway hands it on all the same; what speaks against it is in the file",
        )


def papers(model: ReleasedModel, card: ModelCard) -> dict[str, str]:
    """By name; values that are no sentences are JSON.

    Args:
        card: of the model's file; with personal parameters it is another model's, and the digests
            say so.
    """
    found = {
        "securefed-version": __version__,
        "securefed-digest": model.digest,
        "securefed-about": json.dumps(dict(model.about)),
        "securefed-modalities": json.dumps(model.modalities),
        "securefed-classes": json.dumps(model.classes or CLASSES),
        "securefed-example": model.example,
        "securefed-privacy": model.privacy,
        "securefed-preprocessing": preprocessing(model),
        "securefed-cautions": json.dumps(model.cautions),
        "securefed-card": in_words(card),
        "securefed-card-json": card.encode().decode(),
    }
    if model.harmonise:
        scales = {name: standard(name).tolist() for name in model.modalities if name != CALIBRATED}
        found["securefed-standard-scales"] = json.dumps(scales)
    return found


def preprocessing(model: ReleasedModel) -> str:
    """What scans go through before the network, in words."""
    names, size = listed([name.upper() for name in model.modalities]), model.image_size
    scaled = (
        " Every modality but CT then comes to a standard scale by its deciles "
        "(securefed-standard-scales, securefed/data/harmonisation.py)."
        if model.harmonise
        else ""
    )
    return (
        f"Slices of {names} on one grid, {size} by {size} pixels, row 0 anterior, grey values 0 to "
        "255 as `securefed data import` writes them: CT through a fixed window, by default width "
        "80 and level 40 HU, the others scaled per volume between percentiles 0.5 and 99.5 of its "
        f"foreground.{scaled} Of a {model.example} at most {model.max_slices} slices, evenly "
        "spaced; where a modality was not acquired its pixels are 0."
    )
