"""Importing DICOM: reading it into volumes against plain pydicom, a whole import, and its memory.

    python benchmarks/dicom_import.py [--json] [--patients 6] [--repetitions 5]

A tree of CT and MRI of drawn heads, 24 slices each, 512 x 512 and 256 x 256 pixels. `read` is all
that leads to volumes: finding the files, understanding and grouping their headers, Hounsfield
units, the right way up. The peer `pydicom` is the program that a person writes: dcmread,
pixel_array and apply_rescale of every file, sorted by position, one float32 array for each series.
It knows the files, looks at no header but the position, and doubts nothing. `import` is the rest
too: choosing series, doubting the frame of reference, resampling the MRI, PNG; no peer does it.
Milliseconds of processor time for each file, medians; both take turns in one process, on files that
the system has read before. Peak memory is that of a whole import in a process of its own, of trees
of which one has four times as many patients; what grows with the tree is what is held of each
header, in kB for each file.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_rescale
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from securefed.data.dicom.files import scan_tree
from securefed.data.dicom.stacks import stacks_of
from securefed.data.dicom.tree import import_dicom
from securefed.data.dicom.volume import build_series
from securefed.data.export import new_dataset
from securefed.data.import_rules import ImportRules
from securefed.data.pseudonyms import SiteKey

SLICES, GAP_MM = 24, 6.0
EDGES = {"CT": (512, 0.45), "MR": (256, 0.9)}  # pixels, and mm of one
# What scanners write beside what is needed; a header without them would be read too quickly.
BESIDE = {
    "Manufacturer": "MAKER", "ManufacturerModelName": "Model", "InstitutionName": "Hospital",
    "StationName": "S1", "SoftwareVersions": ["a", "b"], "DeviceSerialNumber": "1234",
    "StudyDescription": "HEAD", "ProtocolName": "HEAD", "PatientSex": "F", "PatientAge": "060Y",
    "PatientWeight": 70, "PatientPosition": "HFS", "StudyTime": "101010", "SeriesTime": "101011",
    "AcquisitionTime": "101012", "AccessionNumber": "77", "ReferringPhysicianName": "A^B",
    "StudyID": "1", "KVP": 120, "WindowCenter": 40, "WindowWidth": 80, "SliceThickness": 6,
    "BodyPartExamined": "HEAD", "SpecificCharacterSet": "ISO_IR 100", "LossyImageCompression": "00",
}  # fmt: skip


def head(modality: str, edge: int, mm: float) -> NDArray[np.int16]:
    """(slices, edge, edge): an ellipsoid with a skull and noise."""
    row, column = np.meshgrid(*[(np.arange(edge) - edge / 2) * mm] * 2, indexing="ij")
    height = (np.arange(SLICES) - SLICES / 2) * GAP_MM
    radius = np.sqrt((column / 70) ** 2 + (row / 88) ** 2 + (height[:, None, None] / 75) ** 2)
    inside, skull = (40, 1000) if modality == "CT" else (400, 60)
    values = np.where(radius > 1, -950 if modality == "CT" else 0, inside)
    values = np.where((radius <= 1) & (radius > 0.92), skull, values)
    return (values + np.random.default_rng(0).normal(0, 8, values.shape)).astype(np.int16)


def write_tree(root: Path, patients: int) -> list[Path]:
    """CT and MRI of each patient in one frame of reference, one file for each slice."""
    volumes = {modality: head(modality, *EDGES[modality]) for modality in EDGES}
    files = []
    for patient in range(patients):
        frame, study = generate_uid(), generate_uid()
        for modality, volume in volumes.items():
            series = generate_uid()
            folder = root / f"patient {patient}" / modality
            folder.mkdir(parents=True)
            for number, image in enumerate(volume):
                dataset = _slice(modality, image, number)
                dataset.PatientID, dataset.PatientName = f"P{patient}", f"Name{patient}^A"
                dataset.FrameOfReferenceUID, dataset.StudyInstanceUID = frame, study
                dataset.SeriesInstanceUID = series
                files.append(folder / f"IM{number:04d}")
                dataset.save_as(files[-1], enforce_file_format=True)
    return files


def _slice(modality: str, image: NDArray[np.int16], number: int) -> Dataset:
    edge, mm = EDGES[modality]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in BESIDE.items():
        setattr(dataset, keyword, value)
    dataset.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    dataset.SOPInstanceUID, dataset.Modality = generate_uid(), modality
    dataset.StudyDate = dataset.AcquisitionDate = "20240101"
    dataset.SeriesNumber, dataset.SeriesDescription = 1, f"{modality} HEAD T1"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber, corner = number + 1, -edge / 2 * mm
    dataset.ImagePositionPatient = [corner, corner, number * GAP_MM]
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [mm, mm]
    dataset.Rows = dataset.Columns = edge
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    if modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "HU"
    dataset.PixelData = image.tobytes()
    return dataset


def read_plainly(files: list[Path]) -> list[NDArray[np.float32]]:
    """The volumes by pydicom alone."""
    series: dict[str, list[tuple[float, NDArray[Any]]]] = defaultdict(list)
    for path in files:
        dataset = pydicom.dcmread(path)
        values = apply_rescale(dataset.pixel_array, dataset)
        place = float(dataset.ImagePositionPatient[2])
        series[dataset.SeriesInstanceUID].append((place, values))
    return [
        np.stack([image for _, image in sorted(images, key=lambda each: each[0])], dtype=np.float32)
        for images in series.values()
    ]


def read_as_import_does(root: Path) -> list[NDArray[np.float32]]:
    """The volumes by what import uses."""
    by_patient = defaultdict(list)
    for item in scan_tree(root).slices:
        by_patient[item.patient_id].append(item)
    stacks = [stack for items in by_patient.values() for stack in stacks_of(items)[0]]
    return [build_series(stack).values for stack in stacks]


def whole_import(root: Path, out: Path, patients: int) -> None:
    """Everything, to PNG and manifest."""
    labels = {f"P{number}": number % 2 for number in range(patients)}
    with new_dataset(out, force=True) as writer:
        report = import_dicom(root, writer, labels, SiteKey(bytes(32)), ImportRules())
    assert (writer.patients, report.problems) == (patients, [])


def milliseconds(works: dict[str, Callable[[], object]], files: int, repetitions: int) -> Any:
    """Median processor time of each work for each file; all take turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for repetition in range(repetitions + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if repetition:  # the first round only warms up
                taken[name].append((time.process_time() - start) / files * 1e3)
    return {name: statistics.median(times) for name, times in taken.items()}


def peak_mb(patients: int) -> float:
    """Of a process that imports a tree of its own."""
    line = [sys.executable, __file__, "--peak-of", str(patients)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return float(done.stdout)


def import_once(patients: int) -> float:
    """Import a tree and say the peak memory, MB; the tree is written by another process."""
    with tempfile.TemporaryDirectory() as scratch:
        if not os.fork():
            write_tree(Path(scratch) / "tree", patients)
            os._exit(0)
        os.wait()
        whole_import(Path(scratch) / "tree", Path(scratch) / "out", patients)
    # Not ru_maxrss: a new program inherits that of the one that started it.
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1e3


def held_kb(root: Path, files: int) -> float:
    """What stays in memory of each file once all headers were read."""
    tracemalloc.start()
    scan = scan_tree(root)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(scan.slices) == files
    return held / files / 1e3


def measure(patients: int, repetitions: int) -> dict[str, object]:
    """The whole benchmark."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "tree"
        files = write_tree(root, patients)
        ours, theirs = read_as_import_does(root), read_plainly(files)
        assert all(map(np.array_equal, ours, theirs))  # the same volumes
        del ours, theirs
        read = milliseconds(
            {"ours": lambda: read_as_import_does(root), "pydicom": lambda: read_plainly(files)},
            len(files),
            repetitions,
        )
        held = held_kb(root, len(files))
        out = Path(scratch) / "out"
        everything = milliseconds(
            {"ours": lambda: whole_import(root, out, patients)},
            len(files),
            max(1, repetitions // 3),
        )
    none: dict[str, object] = {"peers": {}, "floor": None, "times_better": {}}
    return {
        "name": "dicom_import",
        "unit": "ms/file, and MB or kB where the case says so",
        "better": "lower",
        "repetitions": repetitions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pydicom": pydicom.__version__,
        },
        "cases": [
            {
                "case": "read",
                "ours": read["ours"],
                "peers": {"pydicom": read["pydicom"]},
                "floor": None,
                "times_better": {"pydicom": read["pydicom"] / read["ours"]},
            },
            {"case": "import", "ours": everything["ours"], **none},
            {"case": f"peak memory of {patients} patients, MB", "ours": peak_mb(patients), **none},
            {
                "case": f"peak memory of {4 * patients} patients, MB",
                "ours": peak_mb(4 * patients),
                **none,
            },
            {"case": "held of headers, kB for each file", "ours": held, **none},
        ],
    }


def main() -> None:
    """Measure, and print a JSON object or lines for a reader."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.peak_of:
        print(import_once(given.peak_of))
        return
    report = measure(given.patients, given.repetitions)
    if given.json:
        print(json.dumps(report))
        return
    for each in report["cases"]:  # type: ignore[attr-defined]
        peers = ", ".join(f"{name} {figure:.2f}" for name, figure in each["peers"].items())
        print(f"{each['case']}: {each['ours']:.2f}" + (f" ({peers})" if peers else ""))


if __name__ == "__main__":
    main()
