"""`securefed data import`: a hospital's scans become a data set under pseudonyms."""

import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from securefed.cli.data_output import listing, of_classes, of_example, progress_bar, shower, tell
from securefed.data.manifest import DEFAULT_SITE
from securefed.data.table import Problem
from securefed.errors import ConfigurationError, DataError
from securefed.wording import counted, listed

if TYPE_CHECKING:
    from securefed.data.dicom.report import ImportReport
    from securefed.data.samples import ExampleKind

# Only light modules above: the imports that take time stand in the command.

# Options that say nothing of what they are not listed with.
_OF_SCANS = (
    *("window", "allow_unregistered"),
    *("modalities", "rules", "dry_run", "interactive"),
)
_ONLY_FOR = {
    "DICOM": (*_OF_SCANS, "max_gap_days", "allow_burned_in", "label_attribute", "label_report"),
    "NIfTI": _OF_SCANS,
    "pictures": ("levels", "example"),
}
_EXISTING = click.Path(path_type=Path)


@click.command(name="import")
@click.argument("source")
@click.option("--out", required=True, type=_EXISTING, help="Folder to make.")
@click.option("--labels", type=_EXISTING, help="CSV with patient_id,label (needed for DICOM).")
@click.option("--label-attribute", help="Or the DICOM attribute that holds it, by its keyword.")
@click.option("--label-report", help="Or the concept of structured reports that has it.")
@click.option("--site", default=DEFAULT_SITE, show_default=True, help="Name of this hospital.")
@click.option("--site-key", type=_EXISTING, help="Key of the pseudonyms.  [default: OUT.site-key]")
@click.option("--window", default="brain", show_default=True, help="CT: brain, subdural or bone.")
@click.option("--levels", type=(float, float), help="CT pictures over 8 bits: black, white value.")
@click.option("--size", default=256, show_default=True, help="Image edge in pixels.")
@of_example
@of_classes
@click.option("--modalities", help="What to import, the query first.  [default: ct,mri]")
@click.option("--rules", type=_EXISTING, help="YAML: modalities, and which series are theirs.")
@click.option("--dry-run", is_flag=True, help="Show which series would be used; write nothing.")
@click.option("--interactive", is_flag=True, help="Ask where a patient has several series.")
@click.option("--max-gap-days", default=30, show_default=True, help="Between scans of a pair.")
@click.option("--allow-burned-in", is_flag=True, help="Accept images that may show names.")
@click.option("--allow-unregistered", is_flag=True, help="Pair what could not be registered.")
@click.option("--force", is_flag=True, help="Replace an older data set at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def command(
    context: click.Context,
    source: str,
    out: Path,
    labels: Path | None,
    label_attribute: str | None,
    label_report: str | None,
    site: str,
    site_key: Path | None,
    window: str,
    levels: tuple[float, float] | None,
    size: int,
    example: "ExampleKind",
    classes: tuple[str, ...],
    modalities: str | None,
    rules: Path | None,
    dry_run: bool,
    interactive: bool,
    max_gap_days: int,
    allow_burned_in: bool,
    allow_unregistered: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a DICOM tree, a folder of NIfTI volumes or of images, or a manifest, into a data set.

    An https address is that of a DICOMweb service: scans of the labelled patients are fetched to
    OUT.fetched first, which a second start takes up again.

    Patient ids become pseudonyms under a key that is made beside --out (OUT.site-key, readable by
    you only). Keep the key at the site and out of the data set: it links pseudonyms to patients.
    Files that cannot be used are listed with the reason, the rest is imported, and the exit code
    is 1. docs/data.md has the rules.
    """
    from securefed.cli.scan_import import discard, fetched_beside, import_scans
    from securefed.data.deep_grey import require_levels
    from securefed.data.dicom.report import ImportReport
    from securefed.data.export import new_dataset
    from securefed.data.import_rules import ImportRules
    from securefed.data.modalities import named_in
    from securefed.data.names import require_site
    from securefed.data.picture_import import import_pictures
    from securefed.data.pseudonyms import key_beside, load_or_create_key, passing_key
    from securefed.data.series_rules import read_rules
    from securefed.data.sources import Source, source_of

    try:
        require_site(site)
    except DataError as error:
        raise ConfigurationError(
            f"--site: {error}", hint="a short name, such as north-hospital"
        ) from None
    whence = {
        "--labels": labels,
        "--label-attribute": label_attribute,
        "--label-report": label_report,
    }
    given = [option for option, value in whence.items() if value]
    if len(given) > 1:
        raise ConfigurationError(
            f"{listed(given)} say where labels are, each in its own way", hint="keep one of them"
        )
    kind = source_of(source, labels=bool(given))
    _require_of_use(context, kind.value)
    require_levels(levels)
    chosen = ImportRules(
        site=site,
        window=window,
        image_size=size,
        max_gap_days=max_gap_days,
        allow_burned_in=allow_burned_in,
        allow_unregistered=allow_unregistered,
        label_attribute=label_attribute or "",
        label_report=(label_report or "").strip(),
        classes=classes,
        series=read_rules(rules, None if modalities is None else named_in(modalities)),
    )
    key_path = site_key or key_beside(out)
    if key_path.resolve().is_relative_to(out.resolve()):
        raise ConfigurationError(
            f"the site key {key_path.name} would lie inside the data set",
            hint="keep it elsewhere: who has both can name every patient",
        )
    key_is_new = not key_path.exists()
    # A service has no place that --out could lie in.
    place, fetched = None if kind is Source.DICOMWEB else Path(source), fetched_beside(out)
    try:
        with (
            nullcontext() if dry_run else new_dataset(out, force=force, source=place) as writer,
            progress_bar(quiet=as_json or interactive) as bar,
        ):
            key = passing_key(key_path) if dry_run else load_or_create_key(key_path)
            if writer is not None and place is not None and kind is Source.PICTURES:
                show = shower(bar, "patients")
                folder = import_pictures(
                    place, writer, key, size, site, levels, show, example=example, classes=classes
                )
                report = ImportReport(folder.problems)
                report.notes = [Problem(place.name, warning) for warning in folder.notes]
            else:
                report = import_scans(
                    kind,
                    source,
                    labels,
                    fetched,
                    writer,
                    key,
                    chosen,
                    bar,
                    interactive=interactive,
                )
        if place is None and not dry_run:
            discard(fetched, report)
    except BaseException:
        if key_is_new and not dry_run:  # it has named nobody yet
            key_path.unlink(missing_ok=True)
        raise
    facts: dict[str, Any] = {
        "problems": list(map(str, report.problems)),
        "notes": list(map(str, report.notes)),
        "skipped": report.skipped.counts,
        "skipped_first": report.skipped.first,
        "series": [asdict(patient) for patient in report.series],
    }
    if writer is None:
        patients = sum(bool(each.used) for each in report.series)
        facts |= {"dry_run": True, "patients": patients}
        text = f"{counted(patients, 'patient')} would be imported; nothing was written"
    else:
        facts |= {
            "manifest": str(out / "manifest.csv"),
            "site_key": str(key_path),
            "simulation": writer.simulation or None,
            "patients": writer.patients,
            "slices": writer.slices,
        }
        text = f"{counted(writer.patients, 'patient')}, {counted(writer.slices, 'slice')}"
    if not as_json:
        _show(report, all_series=dry_run)
        if writer is not None:
            click.echo(f"site key: {key_path} (keep it at the site)")
    tell(facts, as_json, text)
    sys.exit(1 if report.problems else 0)


def _show(report: "ImportReport", *, all_series: bool) -> None:
    if all_series:
        for line in (line for each in report.series for line in each.lines()):
            click.echo(line)
    else:
        choices = [line for each in report.series if each.left for line in each.lines()]
        listing("series, where there was a choice", choices)
    listing("problems", report.problems)
    listing("notes", report.notes)
    for line in report.skipped.lines():
        click.echo(line)


def _require_of_use(context: click.Context, kind: str) -> None:
    """Refuse options that say nothing of this import, which somebody believes in."""
    for name in {name: None for names in _ONLY_FOR.values() for name in names}:
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in _ONLY_FOR[kind.removesuffix("web")]:
            option = f"--{name.replace('_', '-')}"
            of = " and ".join(kind for kind, names in _ONLY_FOR.items() if name in names)
            why = "DICOM needs --labels" if kind == "pictures" else f"this is {kind}"
            raise ConfigurationError(f"{option} is for {of}, and {why}", hint="leave it out")
