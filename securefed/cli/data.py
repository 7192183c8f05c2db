"""`securefed data`: make phantom patients, import scans, check and show what a manifest holds.

Nothing here sends anything anywhere. `check` prints counts, file names, and pseudonyms of the
manifest; `import` prints paths of files it could not use, which in a hospital may contain names.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from securefed.cli import data_import, data_show
from securefed.cli.data_output import listing, of_classes, of_example, progress_bar, shower, tell
from securefed.cli.screen import Narrowing, screen
from securefed.data.table import Problem

if TYPE_CHECKING:
    from securefed.data.samples import ExampleKind

# Only light modules above: the imports that take time stand in the commands that need them.

_EXISTING = click.Path(path_type=Path)


@click.group(name="data", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Make phantom patients, import scans, check a manifest, look at patients.

    \b
    securefed data phantom --out phantoms               synthetic patients to try things on
    securefed data import DICOM_TREE --labels labels.csv --out mine
    securefed data check mine/manifest.csv              exit 0 if all is usable
    securefed data show mine/manifest.csv --out look    pictures of the patients, to look at
    securefed run --data mine/manifest.csv
    """


command.add_command(data_import.command)
command.add_command(data_show.command)


@command.command()
@click.option("--out", required=True, type=_EXISTING, help="Folder to make.")
@click.option("--hospitals", default=4, show_default=True, help="Number of hospitals.")
@click.option("--patients", default=25, show_default=True, help="Patients per hospital.")
@click.option("--modalities", default="ct,mri", show_default=True, help="What is scanned.")
@click.option("--size", default=64, show_default=True, help="Image edge in pixels, 16 to 512.")
@click.option("--contrast", type=float, help="Factor on every lesion; 1 is physical.")
@click.option("--rho", type=float, help="Share of negatives with a sign at another place.")
@click.option("--kappa", type=float, help="Share of the other negatives with one sign.")
@click.option("--distractors", type=float, help="Harmless spots of a patient on average.")
@of_example
@of_classes
@click.option("--seed", default=0, show_default=True, help="Same seed, same patients.")
@click.option("--force", is_flag=True, help="Replace an older data set at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def phantom(
    out: Path,
    hospitals: int,
    patients: int,
    modalities: str,
    size: int,
    contrast: float | None,
    rho: float | None,
    kappa: float | None,
    distractors: float | None,
    example: "ExampleKind",
    classes: tuple[str, ...],
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write synthetic patients: PNG slices, manifest.csv and truth.csv.

    Each patient is a tumour patient exactly if the signs of all modalities lie at the same place,
    so no modality alone suffices. With --classes each kind of patient is one: healthy, all signs at
    one place, each sign alone, and all of them at two places. truth.csv says what is where, slice
    by slice. Never report accuracy on phantoms as clinical.
    """
    from securefed.data.phantom import PhantomSpec
    from securefed.data.phantom_files import write_phantoms

    chosen = {"contrast": contrast, "rho": rho, "kappa": kappa, "distractors": distractors}
    given = {name: value for name, value in chosen.items() if value is not None}
    names = [name.strip() for name in modalities.split(",")]
    spec = PhantomSpec(tuple(names), size, classes=len(classes), **given)  # type: ignore[arg-type]
    total = hospitals * patients
    with progress_bar(quiet=as_json) as bar:
        made = 0

        def step(more: int) -> None:
            nonlocal made
            made += more
            bar.reach(made / total, f"phantoms {made}/{total}")

        slices = write_phantoms(
            out,
            spec,
            hospitals,
            patients,
            seed,
            example=example,
            classes=classes,
            force=force,
            step=step,
        )
    facts = {"manifest": str(out / "manifest.csv"), "patients": total, "slices": slices}
    tell(facts, as_json, f"{total} patients of {hospitals} hospitals, {slices} slices")


@command.command()
@click.argument("manifest", type=_EXISTING)
@click.option("--size", default=64, show_default=True, help="Image edge to load at, in pixels.")
@of_example
@of_classes
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def check(
    manifest: Path, size: int, example: "ExampleKind", classes: tuple[str, ...], as_json: bool
) -> None:
    """Read a manifest (or a folder) as a run would, and say what is wrong with it.

    Prints what the data set is, its patients, slices, modalities and labels by site, every bad line
    with its reason, and patient ids that seem to be one person's: identical images, one name in the
    DICOM headers, or one spelling. Exit code 0: all usable. 1: there are problems; images that look
    nearly the same are listed for you to look at and are none.
    """
    from securefed.data.burned_in import burned_in
    from securefed.data.folders import read
    from securefed.data.identities import find_doubles
    from securefed.data.load import fingerprint, inspect_manifest
    from securefed.data.outliers import outliers
    from securefed.data.pseudonyms import key_place, load_or_create_key
    from securefed.data.requirements import alike_sites, one_label
    from securefed.data.summary import summarise

    with progress_bar(quiet=as_json) as bar:
        loaded = inspect_manifest(
            manifest, size, progress=shower(bar, "rows"), example=example, classes=classes
        )
        bar.say("looking for one person under two ids")
        doubles = find_doubles(loaded.patients, loaded.persons)
        bar.say("looking for letters in pictures")
        letters = burned_in(read(manifest, example=example, classes=classes).rows)
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
    notes = [*loaded.warnings, *loaded.named, *outliers(loaded.patients), *letters]
    sites = summarise(loaded.patients, classes)
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
        "warnings": notes,
        "fingerprint": print_of_all,
    }
    if not as_json:
        if sites:
            table = _table(sites)
            screen(stderr=False).print(Narrowing(table, _expendable(table)))
        listing("problems", problems)
        listing("images that look the same", near)
        for note in notes:
            click.echo(f"note: {note}")
        if print_of_all:
            click.echo(f"fingerprint under the site's key: {print_of_all}")
    tell(facts, as_json, "problems found" if problems else "all usable")
    sys.exit(1 if problems else 0)


def _table(sites: Sequence[dict[str, Any]]) -> Table:
    """One line per site."""
    table = Table(box=None, pad_edge=False)
    for column in sites[0]:
        table.add_column(column.replace("_", " "), justify="right", no_wrap=True)
    for site in sites:
        table.add_row(*map(str, site.values()))
    return table


def _expendable(table: Table) -> list[str]:
    """Columns that a narrow screen leaves out, those that go first: what there is most of."""
    headers = [str(column.header) for column in reversed(table.columns)]
    of_one = [[each for each in headers if each.endswith(end)] for end in (" slices", " only")]
    return [*of_one[0], *of_one[1], "some", "all", "both", "slices", "patients"]
