"""`securefed pretrain`: make public encoder weights, from phantoms, scenes or public pictures."""

from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from securefed.cli.screen import screen
from securefed.config import VOLUME_ENCODERS, Encoder
from securefed.errors import ConfigurationError
from securefed.progress import Bar

OF_SLICES = [name for name in get_args(Encoder) if name not in VOLUME_ENCODERS]


def require_folder(out: Path) -> None:
    """ConfigurationError unless there is a folder for a file."""
    if not out.parent.is_dir():
        raise ConfigurationError(
            f"there is no folder {out.parent}", hint="make it, or change --out"
        )


def printable(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Words that a terminal may be shown, since a weight file is refused with others."""
    if text is not None and not text.isprintable():
        raise click.BadParameter("it has control characters; leave them out")
    return text


@click.command()
@click.pass_context
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File to write (.safetensors).",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Public pictures of one modality, in folders of classes; without, phantoms.",
)
@click.option(
    "--scenes",
    type=click.IntRange(min=100),
    help="As many random scenes: one encoder for every modality. Runs on phantoms are much worse "
    "from it so far than from the shipped weights.",
)
@click.option("--without", help="Of --images: the class that shows no finding.")
@click.option(
    "--origin",
    callback=printable,
    help="Of --images: where they are from, in words; run.json has it.",
)
@click.option(
    "--licence",
    callback=printable,
    help="Of --images: under which licence; run.json has it too.",
)
@click.option(
    "--encoder",
    type=click.Choice(OF_SLICES),
    default="compact",
    show_default=True,
    help="Which (model.encoder).",
)
@click.option("--width", default=8, show_default=True, help="Features per place (model.width).")
@click.option(
    "--modalities",
    default="ct,mri",
    show_default=True,
    help="An encoder for each; of --images a single one.",
)
@click.option("--image-size", default=64, show_default=True, help="Slice edge in pixels.")
@click.option("--patients", default=2000, show_default=True, help="Phantom patients.")
@click.option("--epochs", default=4, show_default=True, help="Passes over their slices.")
@click.option("--seed", default=2026, show_default=True, help="Of phantoms, weights and batches.")
def command(
    context: click.Context,
    out: Path,
    images: Path | None,
    scenes: int | None,
    without: str | None,
    origin: str | None,
    licence: str | None,
    encoder: str,
    width: int,
    modalities: str,
    image_size: int,
    patients: int,
    epochs: int,
    seed: int,
) -> None:
    """Train encoders on public data of single modalities: phantoms, --images or --scenes.

    The weights that come with SecureFed were made by this command. No pair of scans is used: the CT
    encoder learns "is there a dense core", the MRI encoder "is there a mass", each from its own
    modality. Takes about a minute for each on two cores. Of --images/CLASS/*.png an encoder learns
    to tell the other classes from --without. Pictures must not be of any run's patients. Of
    --scenes, shapes and textures without anatomy, one learns what is at each place: the weights
    have never seen what a run on phantoms asks for.
    """
    require_folder(out)
    names = tuple(name.strip() for name in modalities.split(","))
    of_pictures = (without, origin, licence)
    if images is None and any(of_pictures):
        raise ConfigurationError(
            "--without, --origin and --licence are of --images", hint="give --images too"
        )
    of_scans = ("images", "modalities", "patients")
    if scenes is not None and any(
        context.get_parameter_source(name) is not ParameterSource.DEFAULT for name in of_scans
    ):
        raise ConfigurationError(
            "--scenes are of no modality and no patients",
            hint="leave out --images, --modalities and --patients, or --scenes",
        )
    if images is not None and (len(names) != 1 or not all(of_pictures)):
        raise ConfigurationError(
            "--images are of one modality, and their origin and licence have to be known",
            hint="give --modalities NAME, --without CLASS, --origin TEXT and --licence TEXT",
        )
    from securefed.model import public_images, public_scenes, public_weights
    from securefed.model.pretraining import Schedule

    with Bar(screen()) as bar:
        settings: dict[str, Any] = {
            "encoder": encoder,
            "width": width,
            "image_size": image_size,
            "schedule": Schedule(epochs=epochs),
            "seed": seed,
            "progress": lambda name, share: bar.reach(share, name),
        }
        if scenes is not None:
            about = public_scenes.make(out, scenes=scenes, **settings)
        elif images is None:
            about = public_weights.make(out, modalities=names, patients=patients, **settings)
        else:
            about = public_images.make(
                out,
                images,
                modality=names[0],
                without=str(without),
                source=str(origin),
                licence=str(licence),
                **settings,
            )
    for key in sorted(key for key in about if "held_out" in key):
        click.echo(f"{key}: {about[key]}")
    click.echo(f"wrote {out} ({out.stat().st_size / 1000:.0f} kB)")
