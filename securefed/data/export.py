"""Writing a data set: PNG slices and manifest.csv, all of it or nothing.

Everything goes into a hidden folder beside the target and is renamed at the end, so a crash or a
full disk leaves no half-written data set under the final name. The new folder is readable by its
owner only. With `force` an older data set gives way, but only a folder that holds a manifest.csv:
a mistyped path cannot delete anything else. PNGs carry no metadata.
"""

import csv
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from securefed.data.images import write_png
from securefed.data.manifest import FIRST_COLUMNS, LAST_COLUMNS
from securefed.data.modalities import DEFAULT, column
from securefed.errors import ConfigurationError, DataError

Image = NDArray[np.uint8]  # (rows, columns)


class DatasetWriter:
    """Collects patients of one data set; use it inside `new_dataset`.

    Attributes:
        simulation: what the patients are if not real ones, of SIMULATIONS; "" for real ones.
        modalities: that the manifest has columns for.
        classes: names of several that labels are numbers of, and are written by; none for 0 and 1.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.patients = 0
        self.slices = 0
        self.simulation = ""
        self.modalities: tuple[str, ...] = DEFAULT
        self.classes: tuple[str, ...] = ()
        self._rows: list[dict[str, str]] = []

    def add(
        self,
        patient_id: str,
        label: int,
        site: str,
        slices: Iterable[Mapping[str, Image]],
        registrations: Sequence[tuple[str, float | None]] = (),
        person: str = "",
        examples: Sequence[tuple[str, int]] = (),
    ) -> None:
        """Write a patient's slices, in order, by modality; slices without any are left out.

        Args:
            registrations: of each slice how its modalities were brought together, "" where nothing
                was done, and the error in mm where there was a registration.
            person: a keyed pseudonym of who is behind the id; "" where nobody knows.
            examples: study and label of each slice, where not all are the patient's.
        """
        self.patients += 1
        for number, images in enumerate(slices):
            if not images:
                continue
            name = f"{patient_id}_s{number:03d}"
            row = {"patient_id": patient_id, "label": self._label(label), "site": site}
            row |= {"slice": str(number), "pair_id": name, "person": person}
            row["simulation"] = self.simulation
            if registrations:
                row["registration"], error_mm = registrations[number]
                row["registration_mm"] = "" if error_mm is None else f"{error_mm:.1f}"
            if examples:
                study, label = examples[number]
                row |= {"label": self._label(label)} | ({"study": study} if study else {})
            for modality, image in images.items():
                row[column(modality)] = f"{modality}/{name}.png"
                (self.folder / modality).mkdir(exist_ok=True)
                write_png(self.folder / modality / f"{name}.png", image)
            self._rows.append(row)
            self.slices += 1

    def _label(self, label: int) -> str:
        return self.classes[label] if self.classes else str(label)

    def write_table(
        self, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, object]]
    ) -> None:
        """Write a CSV beside the images."""
        with (self.folder / name).open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns, restval="")
            table.writeheader()
            table.writerows(rows)

    def finish(self) -> None:
        """Write the manifest over everything added."""
        of_study = ("study",) if any(row.get("study") for row in self._rows) else ()
        images = map(column, self.modalities)
        columns = (*FIRST_COLUMNS, *of_study, *images, *LAST_COLUMNS)
        self.write_table("manifest.csv", columns, self._rows)


@contextmanager
def new_dataset(
    target: Path, *, force: bool = False, source: Path | None = None
) -> Iterator[DatasetWriter]:
    """Give a writer whose data set appears at `target` when the block ends without an error.

    Args:
        source: what it is made from; never replaced.

    Raises:
        ConfigurationError: target exists and `force` is not given, is not a data set, or holds the
            source.
        DataError: the place cannot be written to.
    """
    target = Path(os.path.abspath(target))  # "." has no name
    _require_free(target, force)
    if source is not None and source.resolve().is_relative_to(target.resolve()):
        raise ConfigurationError(
            f"{target.name} holds what is imported, so it is not replaced",
            hint="choose another --out",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise DataError(
            f"{target.name}: cannot be written ({error.strerror})", hint="choose another --out"
        ) from None
    try:
        writer = DatasetWriter(staging)
        yield writer
        writer.finish()
        _replace(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _require_free(target: Path, force: bool) -> None:
    if target.is_symlink() and not target.exists():
        raise ConfigurationError(
            f"{target.name} is a link that leads nowhere", hint="choose another --out"
        )
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not force:
        raise ConfigurationError(
            f"{target.name} is already there",
            hint="choose another --out, or --force to replace a data set",
        )
    if target.is_symlink() or not (target / "manifest.csv").is_file():
        raise ConfigurationError(
            f"{target.name} is not a data set (no manifest.csv), so it is not replaced",
            hint="choose another --out",
        )


def _replace(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
        return
    # A folder cannot be renamed onto a full one: step aside, swap, then delete.
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(aside / "old")
    staging.rename(target)
    shutil.rmtree(aside)
