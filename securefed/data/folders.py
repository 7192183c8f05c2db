"""Folders of images without a manifest: paired folders, and the open Kaggle class folders.

Paired:   ROOT/ct/NAME.png and ROOT/mri/NAME.png belong together, as do those of any two or more
          folders that are called as modalities are; some may be absent. The label comes from
          ROOT/labels.csv (columns patient_id and label). A name that ends in `_s12` or `_slice12`
          is slice 12 of the patient before it; any other name is a patient of its own.
Classes:  `ROOT/Brain Tumor CT scan Images/{Healthy,Tumor}` and `ROOT/Brain Tumor MRI images/...`.
          These are unpaired images of unknown patients. Pairing the k-th CT with the k-th MRI of
          a class is a simulation: no pair shows one person, the same person may be in several,
          and the warning says so.
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from securefed.data.file_kinds import PICTURES, kind_of, way_out
from securefed.data.manifest import DEFAULT_SITE, Manifest, Row, read_manifest
from securefed.data.modalities import DEFAULT, named
from securefed.data.names import shown, spelling
from securefed.data.samples import ExampleKind
from securefed.data.table import UNLABELLED, Labels, Problem, read_labels
from securefed.errors import DataError
from securefed.wording import counted, first_of, listed

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SIMULATED_SITE = "simulated"
PAIRED_BY_CLASS = "paired-by-class"  # of SIMULATIONS
_CLASSES = {"healthy": 0, "tumor": 1}  # folder -> label
_BY_SYSTEMS = ("thumbs.db", "ehthumbs.db", "desktop.ini")  # what Windows puts into folders
_LOOKED_AT = 2000  # files whose kind is looked at, to say what a folder holds
_NUMBERED = re.compile(r"(?P<patient>.+)_s(?:lice)?(?P<slice>\d{1,6})", re.IGNORECASE)


def read_folder(
    root: Path,
    modalities: Sequence[str] | None = None,
    *,
    labelled: bool = True,
    classes: Sequence[str] = (),
) -> Manifest:
    """Recognise the layout of a folder and list its rows; images are not opened.

    `Row.line` counts them from 1, as there is no file to point at.

    Args:
        modalities: which are read, in this order; None for all that there are.
        labelled: whether labels.csv is read; without, every label is UNLABELLED.
        classes: as for `read_manifest`.

    Raises:
        DataError: no such folder, an unknown layout, paired folders without labels.csv, or class
            folders, which are of two labels, where there are several classes.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such file or folder"
        raise DataError(f"{root}: {what}", hint="give a manifest or a folder")
    holds = _kinds(root)
    if holds.get("DICOM") and not holds.keys() & set(PICTURES):
        raise DataError(
            f"{root}: holds DICOM files, the first {holds['DICOM'][0]}", hint=way_out("DICOM")
        )
    inside = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    scans = {name: path for each, path in sorted(inside.items()) if (name := named(each))}
    if len(scans) > 1:
        if modalities is not None:
            scans = {name: scans[name] for name in modalities if name in scans}
        folder = _paired(root, scans, tuple(modalities or scans), labelled, classes)
        where = listed([f"{path.name}/" for path in scans.values()])
        beside = _not_read(root, {*scans.values(), root / "labels.csv"}, where)
        return replace(folder, notes=[*folder.notes, *beside])
    ct, mri = _class_folder(inside, r"\bct\b"), _class_folder(inside, r"\bmri?\b")
    if ct and mri:
        if classes and labelled:
            raise DataError(
                f"{root}: Healthy/ and Tumor/ are two labels, and {len(classes)} classes are asked "
                "for",
                hint="leave task.classes out, or write a manifest; see docs/data.md",
            )
        folder = _classes(ct, mri)
        beside = _not_read(root, {ct, mri}, f"{ct.name}/ and {mri.name}/")
        for each in (ct, mri):
            read = {path for path in each.iterdir() if path.name.lower() in _CLASSES}
            beside += _not_read(each, read, f"{each.name}/Healthy/ and Tumor/")
        return replace(folder, notes=[*folder.notes, *beside])
    what = ", ".join(counted(len(names), f"{kind} file") for kind, names in holds.items())
    raise DataError(
        f"{root}: the layout is not known (it holds {what or 'no file'})",
        hint="expected manifest.csv, or ct/ and mri/ with labels.csv, or CT and MRI folders "
        "with Healthy/ and Tumor/ inside; DICOM needs data import with --labels",
    )


def read(
    path: Path,
    modalities: Sequence[str] | None = None,
    *,
    labelled: bool = True,
    example: ExampleKind = "patient",
    further: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Manifest:
    """The rows of a manifest, or of a folder: its manifest.csv, else a layout that is known.

    Args:
        modalities, labelled, example, further, classes: as for `read_manifest`.

    Raises:
        DataError: nothing there, not a manifest, an unknown layout, or one whose labels are of
            patients where others are asked for, or that has no columns where some are.
    """
    if path.is_dir() and not (path / "manifest.csv").exists():
        if example != "patient":
            raise DataError(
                f"{path}: folders without a manifest.csv have a label for each patient, not for "
                f"each {example}",
                hint=f"write a manifest with the label of each {example}; see docs/data.md",
            )
        if further:
            raise DataError(
                f"{path}: folders without a manifest.csv have no column {shown(further[0])}",
                hint="write a manifest; see docs/data.md",
            )
        return read_folder(path, modalities, labelled=labelled, classes=classes)
    file = path / "manifest.csv" if path.is_dir() else path
    return read_manifest(
        file, modalities, labelled=labelled, example=example, further=further, classes=classes
    )


def holds_scans(root: Path) -> bool:
    """Whether a folder without a manifest has DICOM files and no pictures: an import reads it."""
    if not root.is_dir() or (root / "manifest.csv").exists():
        return False
    holds = _kinds(root)
    return "DICOM" in holds and not holds.keys() & set(PICTURES)


def _kinds(root: Path) -> dict[str, list[str]]:
    """Names of the files below a folder by kind; at most _LOOKED_AT, for a message."""
    kinds: dict[str, list[str]] = {}
    for path in itertools.islice(_files(root), _LOOKED_AT):
        try:
            kind = kind_of(path) or "other"
        except OSError:
            kind = "unreadable"
        kinds.setdefault(kind, []).append(str(path.relative_to(root)))
    return kinds


def _files(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names.sort()
        for name in sorted(files):
            if not name.startswith(".") and (Path(folder) / name).is_file():
                yield Path(folder) / name


def _not_read(folder: Path, read: set[Path], where: str) -> list[str]:
    """What stands in a folder beside what is read, which lies `where`."""
    left = [
        path.name + "/" * path.is_dir() for path in _visible(folder.iterdir()) if path not in read
    ]
    return [f"not read, beside {where}: {first_of(left, ', ')}"] if left else []


def _paired(
    root: Path,
    scans: Mapping[str, Path],
    modalities: tuple[str, ...],
    labelled: bool,
    classes: Sequence[str],
) -> Manifest:
    if labelled and not (root / "labels.csv").is_file():
        raise DataError(
            f"{root}: {listed([f'{path.name}/' for path in scans.values()])} are there, but "
            "labels.csv is not",
            hint="write labels.csv with the columns patient_id,label into it",
        )
    labels = read_labels(root / "labels.csv", classes) if labelled else Labels({}, [])
    problems = list(labels.problems)
    images = {}
    for modality, folder in scans.items():
        images[modality], repeated = _by_stem(folder)
        problems += repeated
    rows: list[Row] = []
    numbered: dict[tuple[str, float | None], str] = {}  # patient and slice -> its first stem
    unnumbered = False
    for stem in sorted(set().union(*images.values())):
        match = _NUMBERED.fullmatch(stem)
        patient_id = match["patient"] if match else stem
        unnumbered |= match is None
        label = labels.by_patient.get(patient_id) if labelled else UNLABELLED
        if label is None:
            why = f"labels.csv has no label for patient {shown(patient_id)}"
            written = [each for each in labels.by_patient if spelling(each) == spelling(patient_id)]
            why += f", but one for {shown(written[0])}" if written else ""
            problems.append(Problem(stem, why))
            continue
        number = float(match["slice"]) if match else None
        first = numbered.setdefault((patient_id, number), stem)
        if first != stem:
            reason = f"is slice {number:g} of patient {shown(patient_id)}, as {first} is"
            problems.append(Problem(stem, reason))
            continue
        rows.append(
            Row(
                line=len(rows) + 1,
                patient_id=patient_id,
                label=label,
                site=DEFAULT_SITE,
                images={name: found[stem] for name, found in images.items() if stem in found},
                slice=number,
            )
        )
    warnings = []
    if unnumbered:
        warnings.append(
            "images without a slice number (_s12) in their names count as one patient each; if one "
            "person has several, name them so, or write a manifest"
        )
    if labels.unread:
        warnings.append(
            "columns of labels.csv that no rule reads: " + ", ".join(map(shown, labels.unread))
        )
    imaged = {row.patient_id for row in rows}
    missing = [patient for patient in labels.by_patient if patient not in imaged]
    if missing:
        who = first_of([shown(patient) for patient in missing], ", ")
        problems.append(
            Problem("labels.csv", f"no image of {counted(len(missing), 'patient')}: {who}")
        )
    return Manifest(modalities, rows, problems, warnings, len(rows) + len(problems))


def _class_folder(inside: dict[str, Path], pattern: str) -> Path | None:
    for name, path in inside.items():
        classes = {child.name.lower() for child in path.iterdir() if child.is_dir()}
        if re.search(pattern, name.replace("_", " ")) and classes >= _CLASSES.keys():
            return path
    return None


def _classes(ct: Path, mri: Path) -> Manifest:
    rows: list[Row] = []
    problems: list[Problem] = []
    for name, label in _CLASSES.items():
        pair = []
        for modality in (ct, mri):
            folder = next(path for path in modality.iterdir() if path.name.lower() == name)
            images, repeated = _by_stem(folder)
            problems += repeated
            pair.append([images[stem] for stem in sorted(images)])
        for index in range(max(map(len, pair))):
            sides = zip(DEFAULT, pair, strict=True)
            rows.append(
                Row(
                    line=len(rows) + 1,
                    patient_id=f"simulated-{name}-{index + 1:05d}",
                    label=label,
                    site=SIMULATED_SITE,
                    images={name: side[index] for name, side in sides if index < len(side)},
                    simulation=PAIRED_BY_CLASS,
                )
            )
    warning = (
        "the images have no patient ids: one person may be in several pairs and on both sides of a "
        "split"
    )
    return Manifest(DEFAULT, rows, problems, [warning], len(rows) + len(problems))


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Images of a folder by stem; other files and repeated stems are problems."""
    images: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in _visible(folder.iterdir()):
        place = f"{folder.name}/{path.name}"
        if path.is_dir() and not any(_files(path)):
            continue
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            problems.append(Problem(place, _not_an_image(path)))
        elif not path.resolve().is_relative_to(folder.resolve()):
            problems.append(Problem(place, "is a link that leads outside its folder"))
        elif path.stem in images:
            problems.append(Problem(place, f"has the same name as {images[path.stem].name}"))
        else:
            images[path.stem] = path
    return images, problems


def _not_an_image(path: Path) -> str:
    if path.is_dir():
        return f"is a folder that is not read, of {counted(sum(1 for _ in _files(path)), 'file')}"
    try:
        kind = kind_of(path)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if kind in PICTURES:
        return f"is {kind} inside, without one of the suffixes {', '.join(SUFFIXES)}"
    return "is not a PNG, JPEG, TIFF or BMP image" + (f" but {kind}" if kind else "")


def _visible(paths: Iterable[Path]) -> list[Path]:
    return sorted(
        path
        for path in paths
        if not path.name.startswith(".") and path.name.lower() not in _BY_SYSTEMS
    )
