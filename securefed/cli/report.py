"""`securefed report`: one page about a run or a comparison, signed; and its verification."""

from pathlib import Path

import click
from rich.console import Console

from securefed.errors import ConfigurationError
from securefed.files import write_atomically

EPILOG = """\b
Examples:
  securefed report runs/2026-01-31-120000-dp-secure
  securefed report runs/comparison --pdf
  securefed report verify runs/comparison --signer KEY

Makes report.json, report.html and report.sig in the directory. The page opens offline, in any
browser. docs/report.md explains every section."""

VERIFY = "verify"


@click.command(epilog=EPILOG)
@click.argument("words", nargs=-1, required=True, metavar="[verify] DIRECTORY")
@click.option("--pdf", is_flag=True, help="Also print the page to report.pdf.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the page here as well.")
@click.option("--key", type=click.Path(path_type=Path), help="Ed25519 key to sign with, PEM.")
@click.option("--signer", help="With verify: the public key that must have signed, or its file.")
def command(
    words: tuple[str, ...], pdf: bool, out: Path | None, key: Path | None, signer: str | None
) -> None:
    """Write one page about a run or a comparison, or verify one.

    DIRECTORY is what `securefed run` or `securefed compare` made. With `verify`, says that a
    report and all files it covers are intact, or exactly which changed, appeared or vanished.
    """
    verifying = words[0] == VERIFY and len(words) > 1
    directories = words[1:] if verifying else words
    if len(directories) != 1:
        raise ConfigurationError(
            f"give one directory, got {len(directories)}", hint="securefed report --help"
        )
    directory = Path(directories[0])
    if verifying:
        if pdf or out or key:
            raise ConfigurationError(
                "verify takes no --pdf, --out or --key", hint="it only takes --signer"
            )
        _verify(directory, signer)
        return
    if signer is not None:
        raise ConfigurationError("--signer goes with verify", hint="--key names the key to use")
    _make(directory, pdf, out, key)


def _make(directory: Path, pdf: bool, out: Path | None, key_file: Path | None) -> None:
    from securefed.reporting import integrity
    from securefed.reporting.page import page
    from securefed.reporting.pdf import write_pdf
    from securefed.reporting.record import report_on, subject_of
    from securefed.reporting.signing_key import NAME, load_or_create

    console = Console(stderr=True, soft_wrap=True)
    if pdf and out is not None and out.suffix.lower() == ".pdf":
        raise ConfigurationError("--out is for the HTML page", hint="--pdf writes report.pdf")
    with console.status("reading and hashing"):
        subject = subject_of(directory)
        report = report_on(subject, integrity.inventory(directory))
    path = key_file or Path(click.get_app_dir("securefed")) / NAME
    key, made = load_or_create(path)
    if made:
        console.print(f"made a signing key: {path} (keep it; whoever has it can sign as you)")
    signer = integrity.public_hex(key.public_key())

    # The old signature goes first: a crash leaves an unsigned report, never a wrongly signed one.
    for name in integrity.OWN[::-1]:
        (directory / name).unlink(missing_ok=True)
    report.write(directory)
    pages = {
        opened: page(
            report,
            directory,
            fingerprint=integrity.digest(directory / integrity.REPORT),
            signer=signer,
            opened=opened,
        )
        for opened in ((False, True) if pdf else (False,))
    }
    write_atomically(directory / "report.html", pages[False].encode())
    names = [integrity.REPORT, "report.html"]
    if pdf:
        with console.status("printing"):
            write_pdf(pages[True], directory / "report.pdf")
        names.append("report.pdf")
    write_atomically(directory / integrity.SIGNATURE, integrity.sign(directory, names, key))
    if out is not None:
        write_atomically(out, pages[False].encode())
    for run in report.runs:
        console.print(f"[bold]{run.verdict}[/] {run.configuration} {run.folder}", highlight=False)
    console.print(f"page: {out or directory / 'report.html'}")
    console.print(f"signed by {signer}")


def _verify(directory: Path, signer: str | None) -> None:
    from securefed.reporting.integrity import verify
    from securefed.reporting.signing_key import signer_of

    key = verify(directory, signer_of(signer) if signer else None)
    click.echo(f"intact, signed by {key}")
    if signer is None:
        click.echo("whose key that is, this does not say: pin it with --signer", err=True)
