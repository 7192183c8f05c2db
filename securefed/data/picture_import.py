"""Import of pictures: from folders, or a manifest, of a hospital to a data set under pseudonyms.

Every id is replaced, of people and of those that are made up: an id may be a name, a path or a
formula. What a manifest says of persons, simulation and registration goes on. A row that cannot be
read costs that row, a blank picture itself alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from securefed.data.deep_grey import Levels, read_ct, read_mri
from securefed.data.export import DatasetWriter, Image
from securefed.data.folders import read
from securefed.data.images import BlankError
from securefed.data.manifest import DEFAULT_SITE, Manifest, Row
from securefed.data.modalities import WINDOWED
from securefed.data.names import shown
from securefed.data.pseudonyms import SiteKey
from securefed.data.registrations import number
from securefed.data.samples import ExampleKind
from securefed.data.table import Problem
from securefed.errors import DataError
from securefed.wording import first_of


def import_pictures(
    root: Path,
    writer: DatasetWriter,
    key: SiteKey,
    size: int,
    site: str,
    levels: Levels | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    example: ExampleKind = "patient",
    classes: tuple[str, ...] = (),
) -> Manifest:
    """Write the images of a known layout, or of a manifest, with pseudonyms in place of names.

    Args:
        levels: values shown black and white in CT pictures of more than 8 bits.
        progress: called with (patients done, patients in all).
        example: what a label is of.
        classes: as for `read_manifest`.
    """
    folder = read(root, example=example, classes=classes)
    writer.simulation, writer.modalities = folder.simulation, folder.modalities
    writer.classes = classes
    problems = list(folder.problems)
    by_patient: dict[str, list[Row]] = {}
    offered, written = set[str](), set[str]()  # modalities
    for row in sorted(folder.rows, key=lambda row: (row.study, row.slice or 0)):
        by_patient.setdefault(row.patient_id, []).append(row)
    for done, (patient_id, rows) in enumerate(by_patient.items()):
        progress(done, len(by_patient))
        read_rows, slices, faults = _read(rows, size, levels)
        problems += [Problem(shown(patient_id), fault) for fault in faults]
        offered |= {name for row in rows for name in row.images}
        written |= {name for each in slices for name in each}
        first = rows[0]
        its_own = folder.simulation or first.site != DEFAULT_SITE
        if slices:
            writer.add(
                key.pseudonym(patient_id),
                first.label,
                first.site if its_own else site,
                slices,
                registrations=[(r.registration, number(r.registration_mm)) for r in read_rows],
                person=first.person,
                examples=[(row.study, row.label) for row in read_rows],
            )
    lost = [name for name in folder.modalities if name in offered - written]
    if not writer.patients or lost:
        what = f"{lost[0].upper()} image" if lost and writer.patients else "image"
        why = first_of(problems) if problems else "there is none"
        raise DataError(
            f"{root}: not one {what} could be imported ({why})", hint="look at what it holds"
        )
    return replace(folder, problems=problems)


def _read(
    rows: Sequence[Row], size: int, levels: Levels | None
) -> tuple[list[Row], list[dict[str, Image]], list[str]]:
    """Of one patient: the rows that can be used, their slices by modality, and what cannot."""
    scaled: dict[str, Iterator[Image | DataError]] = {}
    for name in {name for row in rows for name in row.images} - {WINDOWED}:
        # One scale for all pictures of a modality: they are one volume.
        volume = [row.images[name] for row in rows if name in row.images]
        scaled[name] = iter(read_mri(volume, size))
    read_rows: list[Row] = []
    slices: list[dict[str, Image]] = []
    faults: list[str] = []
    for row in rows:
        found = {name: next(scaled[name]) for name in row.images if name != WINDOWED}
        try:
            images, blank = dict[str, Image](), list[str]()
            for name, path in row.images.items():
                image = _ct(path, size, levels) if name == WINDOWED else found[name]
                if isinstance(image, BlankError):
                    blank.append(str(image))
                elif isinstance(image, DataError):
                    raise image
                else:
                    images[name] = image
            if not images:
                raise DataError(blank[0])
            faults += [f"{each}; the row's others are used" for each in blank]
            slices.append(images)
            read_rows.append(row)
        except DataError as error:
            faults.append(str(error))
    return read_rows, slices, faults


def _ct(path: Path, size: int, levels: Levels | None) -> Image | DataError:
    try:
        return read_ct(path, size, levels)
    except DataError as error:
        return error
