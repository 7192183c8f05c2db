"""`securefed pretrain`: make the public encoder weights again."""

from pathlib import Path

import click

from securefed.cli.screen import screen
from securefed.errors import ConfigurationError
from securefed.progress import Bar


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File to write (.safetensors).",
)
@click.option("--width", default=8, show_default=True, help="Features per place (model.width).")
@click.option(
    "--modalities",
    default="ct,mri",
    show_default=True,
    help="Of the phantoms, an encoder for each.",
)
@click.option("--image-size", default=64, show_default=True, help="Slice edge in pixels.")
@click.option("--patients", default=2000, show_default=True, help="Public phantom patients.")
@click.option("--epochs", default=4, show_default=True, help="Passes over their slices.")
@click.option("--seed", default=2026, show_default=True, help="Of phantoms, weights and batches.")
def command(
    out: Path,
    width: int,
    modalities: str,
    image_size: int,
    patients: int,
    epochs: int,
    seed: int,
) -> None:
    """Train the compact encoders on public single-modality phantoms.

    The weights that come with SecureFed were made by this command. No pair of scans is used: the CT
    encoder learns "is there a dense core", the MRI encoder "is there a mass", each from its own
    modality. Takes about a minute for each on two cores.
    """
    if not out.parent.is_dir():
        raise ConfigurationError(
            f"there is no folder {out.parent}", hint="make it, or change --out"
        )
    from securefed.model.pretraining import Schedule
    from securefed.model.public_weights import make

    with Bar(screen()) as bar:
        about = make(
            out,
            modalities=tuple(modalities.split(",")),
            encoder="compact",
            width=width,
            image_size=image_size,
            patients=patients,
            schedule=Schedule(epochs=epochs),
            seed=seed,
            progress=lambda name, share: bar.reach(share, name),
        )
    for key in sorted(key for key in about if key.endswith("auc")):
        click.echo(f"{key}: {about[key]}")
    click.echo(f"wrote {out} ({out.stat().st_size / 1000:.0f} kB)")
