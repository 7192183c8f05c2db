"""`securefed pretrain`: make public encoder weights, from scenes or public pictures."""

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
    "--scenes",
    type=click.IntRange(min=100),
    default=32_000,
    show_default=True,
    help="How many random scenes.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Instead: public pictures of one modality, in folders of classes.",
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
@click.option("--modality", help="Of --images: which they are of.")
@click.option("--image-size", default=64, show_default=True, help="Slice edge in pixels.")
@click.option("--epochs", default=6, show_default=True, help="Passes over them.")
@click.option("--seed", default=2026, show_default=True, help="Of scenes, weights and batches.")
def command(
    context: click.Context,
    out: Path,
    scenes: int,
    images: Path | None,
    without: str | None,
    origin: str | None,
    licence: str | None,
    encoder: str,
    width: int,
    modality: str | None,
    image_size: int,
    epochs: int,
    seed: int,
) -> None:
    """Train an encoder on public pictures: scenes, or --images of one modality.

    Scenes are shapes and textures without anatomy. One encoder, for every modality, learns what is
    at each place: it has never seen what a run on phantoms asks for. The weights that come with
    SecureFed were made by this command, in four minutes on one core. Of --images/CLASS/*.png an
    encoder learns to tell the other classes from --without. Pictures must not be of any run's
    patients.
    """
    require_folder(out)
    of_pictures = (modality, without, origin, licence)
    if images is None and any(of_pictures):
        raise ConfigurationError(
            "--modality, --without, --origin and --licence are of --images",
            hint="give --images too",
        )
    scenes_too = context.get_parameter_source("scenes") is not ParameterSource.DEFAULT
    if images is not None and scenes_too:
        raise ConfigurationError("--scenes or --images, not both", hint="leave out one of them")
    if images is not None and not all(of_pictures):
        raise ConfigurationError(
            "--images are of one modality, and their origin and licence have to be known",
            hint="give --modality NAME, --without CLASS, --origin TEXT and --licence TEXT",
        )
    from securefed.model import public_images, public_scenes
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
        if images is None:
            about = public_scenes.make(out, scenes=scenes, **settings)
        else:
            about = public_images.make(
                out,
                images,
                modality=str(modality),
                without=str(without),
                source=str(origin),
                licence=str(licence),
                **settings,
            )
    for key in sorted(key for key in about if "held_out" in key):
        click.echo(f"{key}: {about[key]}")
    click.echo(f"wrote {out} ({out.stat().st_size / 1000:.0f} kB)")
