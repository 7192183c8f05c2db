"""`securefed convert-weights`: torchvision's weights as a file that runs start from."""

from pathlib import Path
from typing import get_args

import click

from securefed.cli.pretrain import printable, require_folder
from securefed.config import Encoder

NETWORKS = [name for name in get_args(Encoder) if not name.startswith("compact")]


@click.command()
@click.argument("state", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--encoder", type=click.Choice(NETWORKS), required=True, help="Whose weights they are."
)
@click.option(
    "--origin",
    required=True,
    callback=printable,
    help="Where they are from, in words; run.json has it.",
)
@click.option(
    "--licence",
    required=True,
    callback=printable,
    help="Under which licence; run.json has it too.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File to write (.safetensors).",
)
def command(state: Path, encoder: str, origin: str, licence: str, out: Path) -> None:
    """Convert the STATE dictionary of a torchvision network (.pth or .safetensors).

    The result is for model.weights, or securefed run --weights: one input channel, GroupNorm in
    place of batch statistics. docs/encoders.md says what is lost.
    """
    require_folder(out)
    from securefed.model.converted_weights import convert

    convert(state, encoder, origin, licence, out)
    click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
