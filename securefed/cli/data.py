"""`securefed data`: make phantom patients, import scans, check what a manifest holds.

Nothing here sends anything anywhere. `check` prints counts, file names, and pseudonyms of the
manifest; `import` prints paths of files it could not use, which in a hospital may contain names.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.table import Table

from securefed.cli.screen import Narrowing, screen
from securefed.data.manifest import DEFAULT_SITE
from securefed.data.table import Problem
from securefed.errors import ConfigurationError, DataError
from securefed.progress import Bar
from securefed.wording import counted

# Only light modules above: the imports that take time stand in the commands that need them.

_HEADERS = 0.2  # of the time of an import, roughly
_OF_DICOM = ("window", "max_gap_days", "allow_burned_in", "allow_unregistered")
_OF_PICTURES = ("levels",)
# Columns of a narrow screen, those that go first.
EXPENDABLE = ("mri slices", "ct slices", "mri only", "ct only", "both", "slices", "patients")
SHOWN = 20  # problems, notes or duplicates listed before "and n more"
_EXISTING = click.Path(path_type=Path)


@click.group(name="data", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Make phantom patients, import scans, check a manifest.

    \b
    securefed data phantom --out phantoms               synthetic patients to try things on
    securefed data import DICOM_TREE --labels labels.csv --out mine
    securefed data check mine/manifest.csv              exit 0 if all is usable
    securefed run --data mine/manifest.csv
    """


@command.command()
@click.option("--out", required=True, type=_EXISTING, help="Folder to make.")
@click.option("--hospitals", default=4, show_default=True, help="Number of hospitals.")
@click.option("--patients", default=25, show_default=True, help="Patients per hospital.")
@click.option("--size", default=64, show_default=True, help="Image edge in pixels, 16 to 512.")
@click.option("--contrast", type=float, help="Factor on every lesion; 1 is physical.")
@click.option("--rho", type=float, help="Share of negatives with both signs at different places.")
@click.option("--kappa", type=float, help="Share of the other negatives with one sign.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same patients.")
@click.option("--force", is_flag=True, help="Replace an older data set at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def phantom(
    out: Path,
    hospitals: int,
    patients: int,
    size: int,
    contrast: float | None,
    rho: float | None,
    kappa: float | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write synthetic patients: PNG slices, manifest.csv and truth.csv.

    Each patient is a tumour patient exactly if the CT sign and the MRI sign lie at the same place,
    so neither modality alone suffices. truth.csv says what is where, slice by slice. Never report
    accuracy on phantoms as clinical.
    """
    from securefed.data.phantom import PhantomSpec
    from securefed.data.phantom_files import write_phantoms

    chosen = {"contrast": contrast, "rho": rho, "kappa": kappa}
    given = {name: value for name, value in chosen.items() if value is not None}
    spec = PhantomSpec(image_size=size, **given)  # type: ignore[arg-type]  # floats, all three
    total = hospitals * patients
    with _bar(quiet=as_json) as bar:
        made = 0

        def step(more: int) -> None:
            nonlocal made
            made += more
            bar.reach(made / total, f"phantoms {made}/{total}")

        slices = write_phantoms(out, spec, hospitals, patients, seed, force=force, step=step)
    facts = {"manifest": str(out / "manifest.csv"), "patients": total, "slices": slices}
    _tell(facts, as_json, f"{total} patients of {hospitals} hospitals, {slices} slices")


@command.command(name="import")
@click.argument("source", type=_EXISTING)
@click.option("--out", required=True, type=_EXISTING, help="Folder to make.")
@click.option("--labels", type=_EXISTING, help="CSV with patient_id,label (needed for DICOM).")
@click.option("--site", default=DEFAULT_SITE, show_default=True, help="Name of this hospital.")
@click.option("--site-key", type=_EXISTING, help="Key of the pseudonyms.  [default: OUT.site-key]")
@click.option("--window", default="brain", show_default=True, help="CT: brain, subdural or bone.")
@click.option("--levels", type=(float, float), help="CT pictures over 8 bits: black, white value.")
@click.option("--size", default=256, show_default=True, help="Image edge in pixels.")
@click.option("--max-gap-days", default=30, show_default=True, help="Between CT and MRI of a pair.")
@click.option("--allow-burned-in", is_flag=True, help="Accept images that may show names.")
@click.option("--allow-unregistered", is_flag=True, help="Pair what could not be registered.")
@click.option("--force", is_flag=True, help="Replace an older data set at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def import_scans(
    context: click.Context,
    source: Path,
    out: Path,
    labels: Path | None,
    site: str,
    site_key: Path | None,
    window: str,
    levels: tuple[float, float] | None,
    size: int,
    max_gap_days: int,
    allow_burned_in: bool,
    allow_unregistered: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a DICOM tree, ct/ and mri/ folders of images, or a manifest, into a data set.

    Patient ids become pseudonyms under a key that is made beside --out (OUT.site-key, readable by
    you only). Keep the key at the site and out of the data set: it links pseudonyms to patients.
    Files that cannot be used are listed with the reason, the rest is imported, and the exit code
    is 1. docs/data.md has the rules.
    """
    from securefed.data.deep_grey import require_levels
    from securefed.data.dicom.report import ImportReport
    from securefed.data.dicom.tree import ImportRules, import_dicom
    from securefed.data.export import new_dataset
    from securefed.data.names import require_site
    from securefed.data.picture_import import import_pictures
    from securefed.data.pseudonyms import key_beside, load_or_create_key
    from securefed.data.table import read_labels

    try:
        require_site(site)
    except DataError as error:
        raise ConfigurationError(
            f"--site: {error}", hint="a short name, such as north-hospital"
        ) from None
    _require_of_use(context, dicom=labels is not None)
    require_levels(levels)
    rules = ImportRules(site, window, size, max_gap_days, allow_burned_in, allow_unregistered)
    key_path = site_key or key_beside(out)
    if key_path.resolve().is_relative_to(out.resolve()):
        raise ConfigurationError(
            f"the site key {key_path.name} would lie inside the data set",
            hint="keep it elsewhere: who has both can name every patient",
        )
    key_is_new = not key_path.exists()
    try:
        with new_dataset(out, force=force, source=source) as writer, _bar(quiet=as_json) as bar:
            if labels is None:
                key = load_or_create_key(key_path)
                show = _shower(bar, "patients")
                folder = import_pictures(source, writer, key, size, site, levels, show)
                report = ImportReport(folder.problems)
                report.notes = [Problem(source.name, warning) for warning in folder.notes]
            else:
                listed = read_labels(labels)
                key = load_or_create_key(key_path)

                def step(what: str, done: int, total: int) -> None:
                    begun, share = (0.0, _HEADERS) if what == "files" else (_HEADERS, 1 - _HEADERS)
                    bar.reach(begun + share * done / total, f"{what} {done}/{total}")

                bar.say("listing files")
                report = import_dicom(source, writer, listed.by_patient, key, rules, step)
                report.problems = listed.problems + report.problems
                report.notes += [
                    Problem(labels.name, f"column {column!r} is not read")
                    for column in listed.unread
                ]
    except BaseException:
        if key_is_new:  # it has named nobody yet
            key_path.unlink(missing_ok=True)
        raise
    facts = {
        "manifest": str(out / "manifest.csv"),
        "site_key": str(key_path),
        "simulation": writer.simulation or None,
        "patients": writer.patients,
        "slices": writer.slices,
        "problems": list(map(str, report.problems)),
        "notes": list(map(str, report.notes)),
        "skipped": report.skipped.counts,
        "skipped_first": report.skipped.first,
        "series": [asdict(patient) for patient in report.series],
    }
    if not as_json:
        chosen = [line for each in report.series if each.left for line in each.lines()]
        _listing("series, where there was a choice", chosen)
        _listing("problems", report.problems)
        _listing("notes", report.notes)
        for line in report.skipped.lines():
            click.echo(line)
        click.echo(f"site key: {key_path} (keep it at the site)")
    _tell(
        facts, as_json, f"{counted(writer.patients, 'patient')}, {counted(writer.slices, 'slice')}"
    )
    sys.exit(1 if report.problems else 0)


@command.command()
@click.argument("manifest", type=_EXISTING)
@click.option("--size", default=64, show_default=True, help="Image edge to load at, in pixels.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def check(manifest: Path, size: int, as_json: bool) -> None:
    """Read a manifest (or a folder) as a run would, and say what is wrong with it.

    Prints what the data set is, its patients, slices, modalities and labels by site, every bad line
    with its reason, and patient ids that seem to be one person's: identical images, one name in the
    DICOM headers, or one spelling. Exit code 0: all usable. 1: there are problems; images that look
    nearly the same are listed for you to look at and are none.
    """
    from securefed.data.identities import find_doubles
    from securefed.data.load import fingerprint, inspect_manifest
    from securefed.data.pseudonyms import key_place, load_or_create_key
    from securefed.data.requirements import alike_sites, one_label
    from securefed.data.summary import summarise

    with _bar(quiet=as_json) as bar:
        loaded = inspect_manifest(manifest, size, _shower(bar, "rows"))
        bar.say("looking for one person under two ids")
        doubles = find_doubles(loaded.patients, loaded.persons)
    doubts = [
        *map(str, doubles.pairs),
        *doubles.twice,
        *alike_sites(loaded),
        *loaded.unregistered,
        *one_label(loaded.patients),
    ]
    name = manifest.resolve().name
    if not loaded.patients:
        doubts.append("no usable patient")
    problems = loaded.problems + [Problem(name, doubt) for doubt in doubts]
    near = [Problem(name, text) for text in doubles.similar]
    sites = summarise(loaded.patients)
    place = key_place(manifest)
    # Made by import or by the first run; a look at the data makes no secret.
    key = load_or_create_key(place) if place.exists() else None
    print_of_all = fingerprint(loaded.patients, key) if key else None
    facts = {
        "patients": len(loaded.patients),
        "simulation": loaded.simulation or None,
        "sites": sites,
        "problems": list(map(str, problems)),
        "near_duplicates": list(map(str, near)),
        "warnings": [*loaded.warnings, *loaded.named],
        "fingerprint": print_of_all,
    }
    if not as_json:
        if sites:
            screen(stderr=False).print(Narrowing(_table(sites), EXPENDABLE))
        _listing("problems", problems)
        _listing("images that look the same", near)
        for warning in (*loaded.warnings, *loaded.named):
            click.echo(f"note: {warning}")
        if print_of_all:
            click.echo(f"fingerprint under the site's key: {print_of_all}")
    _tell(facts, as_json, "problems found" if problems else "all usable")
    sys.exit(1 if problems else 0)


def _require_of_use(context: click.Context, *, dicom: bool) -> None:
    """Refuse options that say nothing of this import, which somebody believes in."""
    for name in _OF_PICTURES if dicom else _OF_DICOM:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option, of = f"--{name.replace('_', '-')}", "pictures" if dicom else "DICOM"
            given = "--labels says that this is DICOM" if dicom else "DICOM needs --labels"
            raise ConfigurationError(f"{option} is for {of}, and {given}", hint="leave it out")


def _shower(bar: Bar, what: str) -> Callable[[int, int], None]:
    """Shows how many of all are done."""
    return lambda done, total: bar.reach(done / total, f"{what} {done}/{total}")


def _bar(*, quiet: bool) -> Bar:
    """Progress on stderr; silent when JSON was asked for."""
    return Bar(screen(quiet=quiet))


def _tell(facts: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(text)
    if "manifest" in facts:
        click.echo(f"manifest: {facts['manifest']}")


def _listing(title: str, entries: Sequence[Problem | str]) -> None:
    if not entries:
        return
    click.echo(f"{title} ({len(entries)}):")
    for entry in entries[:SHOWN]:
        click.echo(f"  {entry}")
    if len(entries) > SHOWN:
        click.echo(f"  and {len(entries) - SHOWN} more (--json lists all)")


def _table(sites: Sequence[dict[str, Any]]) -> Table:
    """One line per site."""
    table = Table(box=None, pad_edge=False)
    for column in sites[0]:
        table.add_column(column.replace("_", " "), justify="right", no_wrap=True)
    for site in sites:
        table.add_row(*map(str, site.values()))
    return table
