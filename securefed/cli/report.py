"""`securefed report`: one page about a run or a comparison, signed; and its verification."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from securefed.cli.folders import RUN_OPTION, run_folder
from securefed.cli.screen import screen, show_next
from securefed.errors import ConfigurationError, RunError
from securefed.files import finishing, only_writer, write_atomically
from securefed.progress import Bar

if TYPE_CHECKING:
    from securefed.reporting.facts import Report
    from securefed.reporting.site_facts import SiteReport

EPILOG = """\b
Examples:
  securefed report runs/2026-01-31-120000-dp-secure
  securefed report runs/comparison --pdf
  securefed report verify runs/comparison --signer KEY
  securefed report north --run trial

Makes report.json, report.html and report.sig in the directory. The page opens offline, in any
browser. docs/report.md explains every section."""

VERIFY = "verify"


@click.command(epilog=EPILOG)
@click.argument("words", nargs=-1, required=True, metavar="[verify] DIRECTORY")
@RUN_OPTION
@click.option("--pdf", is_flag=True, help="Also print the page to report.pdf.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the page here as well.")
@click.option(
    "--each-hospital", is_flag=True, help="With each hospital's own numbers: they travel then."
)
@click.option("--key", type=click.Path(path_type=Path), help="Ed25519 key to sign with, PEM.")
@click.option("--new-key", is_flag=True, help="Make the key that --key names.")
@click.option("--signer", help="With verify: the public key that must have signed, or its file.")
def command(
    words: tuple[str, ...],
    chosen: str | None,
    pdf: bool,
    out: Path | None,
    each_hospital: bool,
    key: Path | None,
    new_key: bool,
    signer: str | None,
) -> None:
    """Write one page about a run or a comparison, or verify one.

    DIRECTORY is what `securefed run` or `securefed compare` made, a server's folder, or a site's:
    then the page is for the hospital's officer, on what left it, when, under which agreement and
    policy. With `verify`, says that a report and all files it covers are intact, or exactly which
    changed, appeared or vanished.
    """
    verifying = words[0] == VERIFY and len(words) > 1
    directories = words[1:] if verifying else words
    if len(directories) != 1:
        raise ConfigurationError(
            f"give one directory, got {len(directories)}", hint="securefed report --help"
        )
    directory = run_folder(Path(directories[0]), chosen)
    if verifying:
        if pdf or out or each_hospital or key or new_key:
            raise ConfigurationError(
                "verify takes no --pdf, --out, --each-hospital, --key or --new-key",
                hint="it only takes --signer",
            )
        _verify(directory, signer)
        return
    if signer is not None:
        raise ConfigurationError("--signer goes with verify", hint="--key names the key to use")
    if new_key and key is None:
        raise ConfigurationError("--new-key makes the key that --key names", hint="add --key FILE")
    if not directory.is_dir():
        raise RunError(f"there is no directory {directory}", hint="give what --out of a run named")
    with only_writer(directory):
        _make(directory, pdf, out, key, new_key=new_key, each_hospital=each_hospital)


def _make(
    directory: Path,
    pdf: bool,
    out: Path | None,
    key_file: Path | None,
    *,
    new_key: bool,
    each_hospital: bool,
) -> None:
    from securefed.reporting import integrity
    from securefed.reporting.signing_key import NAME, load_or_create

    console = screen()
    if pdf and out is not None and out.suffix.lower() == ".pdf":
        raise ConfigurationError("--out is for the HTML page", hint="--pdf writes report.pdf")
    # A key of one's own is not made by mistyping its name: another key is another signer.
    path = key_file or Path(click.get_app_dir("securefed")) / NAME
    key, made = load_or_create(path, create=key_file is None or new_key)
    if made:
        console.print(f"made a signing key: {path} (keep it; whoever has it can sign as you)")
    signer = integrity.public_hex(key.public_key())
    with Bar(console) as bar:
        report = _facts(directory, bar, each_hospital=each_hospital)
        files = _drawn(report, directory, signer, bar, pdf=pdf)

    # All of it is made before any of it is written. The old signature goes first: a crash leaves an
    # unsigned report, never a wrongly signed one.
    with finishing():
        for name in integrity.OWN[::-1]:
            (directory / name).unlink(missing_ok=True)
        for name, each in files.items():
            write_atomically(directory / name, each)
        write_atomically(
            directory / integrity.SIGNATURE, integrity.sign(directory, list(files), key)
        )
        if out is not None:
            write_atomically(out, files[integrity.PAGE])
    for run in report.parts:
        console.print(Text(f"{run.verdict}", style="bold") + f" {run.title}")
        for mismatch in run.evidence:
            console.print(Text("contradicts the rest: ", style="bold red") + str(mismatch))
    console.print(f"page: {out or directory / integrity.PAGE}")
    console.print(f"signed by {signer}")
    show_next(console, "report", VERIFY, directory, "--signer", signer)


def _facts(directory: Path, bar: Bar, *, each_hospital: bool) -> "Report | SiteReport":
    """What the report says of the run, the comparison or a hospital's part in a directory."""
    from securefed.evidence.checks import mismatches
    from securefed.reporting.integrity import inventory
    from securefed.reporting.record import report_on, runs_of, subject_of
    from securefed.reporting.site_record import site_report
    from securefed.run_directory import Run

    bar.say("reading and hashing")
    subject = subject_of(directory)
    inputs, evidence = inventory(directory), {}
    for one in runs_of(subject):
        bar.say(f"holding the files of {one.path.name} against each other")
        evidence[one.path] = mismatches(one)
    if isinstance(subject, Run) and subject.party == "hospital":
        return site_report(subject, inputs, evidence[subject.path], each_hospital=each_hospital)
    return report_on(subject, inputs, evidence, each_hospital=each_hospital)


def _drawn(
    report: "Report | SiteReport", directory: Path, signer: str, bar: Bar, *, pdf: bool
) -> dict[str, bytes]:
    """The report's files by name, but for the signature."""
    from securefed.reporting.integrity import PAGE, PRINTOUT, REPORT
    from securefed.reporting.page import page
    from securefed.reporting.pdf import print_pdf

    content = report.encode()
    fingerprint = hashlib.sha256(content).hexdigest()

    def drawn(*, opened: bool) -> str:
        return page(report, directory, fingerprint=fingerprint, signer=signer, opened=opened)

    files = {REPORT: content, PAGE: drawn(opened=False).encode()}
    if pdf:
        bar.say("printing")
        files[PRINTOUT] = print_pdf(drawn(opened=True))
    return files


def _verify(directory: Path, signer: str | None) -> None:
    from securefed.reporting.integrity import verify
    from securefed.reporting.signing_key import signer_of

    key = verify(directory, signer_of(signer) if signer else None)
    click.echo(f"intact, signed by {key}")
    if signer is None:
        click.echo("whose key that is, this does not say: pin it with --signer", err=True)
