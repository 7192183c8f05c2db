"""`securefed agreement`: what all hospitals of a federation share, and its digest."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from securefed.cli.screen import screen, show_next
from securefed.config import load
from securefed.errors import ConfigurationError

if TYPE_CHECKING:
    from securefed.wire.agreement import FederationAgreement

KEY_BYTES = 32  # of an Ed25519 public key
_PATH = click.Path(path_type=Path)


@click.group(name="agreement", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Make, show, compare and accept what the hospitals of a federation agree on.

    An agreement is one file, and one run. Its digest is what people compare, on the phone or on
    paper; a hospital trains under a digest that it has accepted and under no other.

    \b
    securefed agreement make agreement.yaml --name trial --config run.yaml \\
        --hospital north=KEY --hospital south=KEY --hospital west=KEY
    securefed agreement show agreement.yaml
    securefed agreement accept north agreement.yaml --digest 3f2a...
    """


@command.command()
@click.argument("out", type=_PATH)
@click.option("--name", required=True, help="Of what is agreed: letters, digits, '.', '_', '-'.")
@click.option("--config", type=_PATH, help="YAML file with settings, as of a run.")
@click.option(
    "--hospital",
    "hospitals",
    multiple=True,
    required=True,
    metavar="NAME=KEY",
    help="A line of `securefed keys show`; once for each hospital.",
)
@click.option(
    "--smallest-training-set",
    type=int,
    help="Patients that every hospital has, for privacy.placement: distributed with a batch.",
)
@click.option(
    "--survey",
    "survey_epsilon",
    type=click.FloatRange(0, 1000, min_open=True),
    metavar="EPSILON",
    help="Train nothing: hospitals say once what they hold, at this cost (docs/survey.md).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def make(
    out: Path,
    name: str,
    config: Path | None,
    hospitals: tuple[str, ...],
    smallest_training_set: int | None,
    survey_epsilon: float | None,
    as_json: bool,
) -> None:
    """Write an agreement to OUT, a new file.

    Of the settings it takes model, training, privacy, federation, secure_aggregation and seed; the
    rest is each hospital's own.
    """
    from securefed.wire import agreement

    keys = dict(map(_name_and_key, hospitals))
    if len(keys) != len(hospitals):
        raise ConfigurationError(
            "--hospital names one hospital twice", hint="give each one's line once"
        )
    if len(keys) == 1:
        raise ConfigurationError(
            "--hospital is given once, and nobody learns together alone",
            hint="give it for each hospital: --hospital NAME=KEY --hospital NAME=KEY ...",
        )
    given: dict[str, object] = {"federation.clients": len(keys)}
    survey = survey_epsilon is not None
    if survey:
        # It opens over everybody, and costs no more than is said here.
        given |= {"privacy.epsilon": survey_epsilon, "federation.minimum_clients": len(keys)}
    settings = load(config, given)
    content = agreement.make(name, settings, keys, smallest_training_set, survey=survey)
    made = agreement.write(content, out)
    if as_json:
        click.echo(json.dumps({"path": str(out), "digest": made.digest}, indent=2))
        return
    what = "a survey" if survey else made.settings.configuration
    click.echo(f"{out}: {len(keys)} hospitals, {what}")
    click.echo(f"digest: {made.digest}")
    show_next(screen(), "agreement", "accept", "SITE_FOLDER", out, "--digest", made.digest[:32])


@command.command()
@click.argument("file", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def show(file: Path, as_json: bool) -> None:
    """Show everything that FILE agrees on, what it means for a hospital, and its digest."""
    from securefed.wire.agreement import read

    found = read(file)
    if as_json:
        click.echo(json.dumps({"digest": found.digest, **found.agreed}, indent=2))
        return
    console = screen(stderr=False)
    table = Table(box=SIMPLE_HEAD)
    table.add_column("agreed", overflow="fold")
    table.add_column("value", overflow="fold")
    for key, value in found.agreed.items():
        table.add_row(key, _text(value))
    console.print(table)
    for line in _meaning(found):
        console.print(line)
    console.print(f"digest: {found.digest}")


@command.command()
@click.argument("one", type=_PATH)
@click.argument("other", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def diff(one: Path, other: Path, as_json: bool) -> None:
    """Show what two agreements have otherwise; exits 1 if there is anything."""
    from securefed.wire.agreement import read

    here, there = read(one), read(other)
    found = here.differences(there)
    if as_json:
        rows = [{"key": key, "one": a, "other": b} for key, a, b in found]
        digests = {"one": here.digest, "other": there.digest}
        click.echo(json.dumps({"digests": digests, "differences": rows}, indent=2))
    else:
        for key, before, after in found:
            click.echo(f"{key}: {_text(before)} -> {_text(after)}")
        if not found:
            same = here.digest == there.digest
            click.echo("the same" if same else "the same, written in another way: two digests")
    if found or here.digest != there.digest:
        raise click.exceptions.Exit(1)


@command.command()
@click.argument("folder", type=_PATH)
@click.argument("file", type=_PATH)
@click.option(
    "--digest",
    required=True,
    help="As you heard it from who made the agreement: its first 32 digits, or all.",
)
def accept(folder: Path, file: Path, digest: str) -> None:
    """Have the site in FOLDER take part in FILE, when a server asks for it.

    Nothing is spent by this. The privacy unit must be that of the site's ledger. Its policy, and
    whether its budget holds the run, are asked when the run begins.
    """
    from securefed.engine.flare import places
    from securefed.hospital.site import open_site

    site = open_site(folder)
    accepted = site.accept(file, digest)
    click.echo(f"{site.name} takes part in {accepted.name}, agreement {accepted.digest[:16]}")
    for line in _meaning(accepted):
        click.echo(line)
    delta, of_run = site.ledger().delta, accepted.settings.privacy
    if of_run.dp and of_run.delta != delta:
        click.echo(f"the ledger of {site.name} counts it at delta {delta:g}, with all other runs")
    if places.kit(folder).is_dir():
        show_next(screen(), "client", folder)
    else:
        show_next(screen(), "deploy", "request", folder)


def _name_and_key(text: str) -> tuple[str, bytes]:
    name, _, digits = text.partition("=")
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if not name or len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"--hospital {text[:100]}: it is not a name, = and a key of {2 * KEY_BYTES} "
            "hexadecimal digits",
            hint="give the line of securefed keys show as it is: NAME=KEY",
        )
    return name, key


def _meaning(agreement: "FederationAgreement") -> list[str]:
    """What a hospital should know before it accepts."""
    from securefed.secure_sum import hiding_of

    settings, privacy = agreement.settings, agreement.settings.privacy
    lines = []
    if agreement.survey:
        lines.append(
            "nothing is trained: hospitals say once, with noise and under masks, what they hold"
        )
        lines.append(
            f"it costs every patient here at most epsilon {privacy.epsilon:g} at delta "
            f"{privacy.delta:g}"
        )
    elif privacy.dp:
        lines.append(
            f"one run costs patients here at most epsilon {privacy.epsilon:g} at delta "
            f"{privacy.delta:g} per {privacy.unit}"
        )
    else:
        lines.append("there is no differential privacy: no epsilon")
    hidden = hiding_of(settings)
    lines.append(hidden.sentence if hidden else "nothing is masked: the server sees each update")
    return lines


def _text(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
