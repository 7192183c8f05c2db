"""Small data sets on disk, made afresh for each test."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

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


@pytest.fixture
def write_series() -> Callable[..., list[Path]]:
    """Write a volume as a DICOM series, one file without suffix per slice; returns the files.

    Keywords other than those named set header values, for instance PatientID="x".
    """

    def write(
        folder: Path,
        volume: NDArray[np.int16],  # (slices, rows, columns) stored values
        modality: str = "CT",
        *,
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        spacing: float = 1.0,
        gap: float = 5.0,
        **header: object,
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        series, frame = generate_uid(), generate_uid()
        files = []
        for index, image in enumerate(volume):
            dataset = Dataset()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
            dataset.SOPInstanceUID = generate_uid()
            dataset.PatientID, dataset.Modality = "ORIGINAL-ID", modality
            dataset.PatientName = "Doe^Jane"
            dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, frame
            dataset.StudyDate, dataset.InstanceNumber = "20240101", index + 1
            dataset.ImagePositionPatient = [*origin[:2], origin[2] + gap * index]
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            dataset.PixelSpacing = [spacing, spacing]
            dataset.Rows, dataset.Columns = image.shape
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
            dataset.PixelRepresentation = 1
            if modality == "CT":
                dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "HU"
            dataset.PixelData = image.astype("<i2").tobytes()
            for keyword, value in header.items():
                setattr(dataset, keyword, value)
            files.append(folder / f"IM{index:05d}")
            dataset.save_as(files[-1], enforce_file_format=True)
        return files

    return write


@pytest.fixture
def pydicom_files() -> Path:
    """The sample files inside pydicom's wheel."""
    return Path(pydicom.__path__[0]) / "data" / "test_files"
