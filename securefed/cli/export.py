"""`securefed export`: a released model in other programs' formats, with its papers."""

import json
from pathlib import Path

import click

from securefed.cli.asked_model import PATH, personal_option
from securefed.cli.data_output import private_folder, require_new
from securefed.errors import ConfigurationError
from securefed.files import write_atomically
from securefed.wording import listed


@click.command()
@click.argument("model", type=PATH)
@personal_option
@click.option("--onnx", type=PATH, help="ONNX file to write; a new file.")
@click.option("--monai", type=PATH, help="Folder of a MONAI bundle to make.")
@click.option("--anyway", is_flag=True, help="Also a model that is not to be used on patients.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def command(
    model: Path,
    personal: Path | None,
    onnx: Path | None,
    monai: Path | None,
    anyway: bool,
    as_json: bool,
) -> None:
    """Hand a run's model on: as ONNX, as a MONAI bundle, or both.

    MODEL is a finished run's folder, or a model.safetensors. Both formats hold the whole network,
    from pixels and which modalities there are to logits, and answer as the model does within 1e-5,
    which is checked for every selection of modalities before anything is written. With them go the
    preprocessing, what its training promises, what speaks against its use, and the model card.

    \b
    securefed export runs/mine --onnx model.onnx
    securefed export runs/mine --monai bundle
    """
    from securefed.handover.papers import papers, require_usable
    from securefed.model_card.card import of_model
    from securefed.prediction.model import load_model

    if onnx is None and monai is None:
        raise ConfigurationError(
            "nothing says as what to export", hint="--onnx FILE, --monai FOLDER, or both"
        )
    for each in filter(None, (onnx, monai)):
        require_new(each)
    opened = load_model(model, personal)
    if not anyway:
        require_usable(opened)
    told = papers(opened, of_model(model))
    if onnx:
        from securefed.handover.onnx_file import onnx_file

        write_atomically(onnx, onnx_file(opened.network, told))
    if monai:
        from securefed.handover.monai_bundle import write_bundle

        with private_folder(monai):
            write_bundle(monai, opened, told)
    written = [str(each) for each in (onnx, monai) if each]
    if as_json:
        facts = {"model": opened.digest, "written": written, "cautions": opened.cautions}
        click.echo(json.dumps(facts))
        return
    if opened.cautions:
        click.echo(f"NOT FOR USE ON PATIENTS: {listed(opened.cautions)}")
    click.echo(f"{opened.digest[:16]}: {listed(written)}")
