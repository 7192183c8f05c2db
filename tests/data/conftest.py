"""Small data sets on disk, made afresh for each test."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from securefed.data.images import write_png

WriteManifest = Callable[[Sequence[Sequence[str]]], Path]


def blocks(number: int) -> NDArray[np.uint8]:
    """A 16 x 16 image that no other number gives."""
    coarse = np.random.default_rng(number).integers(20, 235, (4, 4))
    return np.kron(coarse, np.ones((4, 4))).astype(np.uint8)


@pytest.fixture
def picture() -> Callable[[int], NDArray[np.uint8]]:
    """What write_manifest puts into ct/N.png (number N) and mri/N.png (number 100 + N)."""
    return blocks


@pytest.fixture
def write_manifest(tmp_path: Path) -> WriteManifest:
    """Write pictures ct/0.png .. ct/9.png, mri/0.png .. mri/9.png and the given lines."""
    for offset, modality in ((0, "ct"), (100, "mri")):
        (tmp_path / modality).mkdir()
        for number in range(10):
            write_png(tmp_path / modality / f"{number}.png", blocks(offset + number))

    def write(lines: Sequence[Sequence[str]]) -> Path:
        with (tmp_path / "manifest.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
        return tmp_path / "manifest.csv"

    return write


@pytest.fixture
def real_pairs() -> Path:
    """The real CT-MRI pairs, which may not be redistributed and so are not in the repository."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "aanlib_ct_mri"
    if not (folder / "manifest.csv").is_file():
        pytest.skip("the real CT-MRI pairs are not beside the repository (../shared/data)")
    return folder / "manifest.csv"
