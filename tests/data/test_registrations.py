"""What a manifest says of registrations reaches the check and the run."""

from collections.abc import Callable, Sequence
from pathlib import Path

from securefed.data.load import inspect_manifest

WriteManifest = Callable[[Sequence[Sequence[str]]], Path]
HEADER = ["patient_id", "label", "ct_path", "mri_path", "registration", "registration_mm"]


def test_failed_pairs_are_named_and_the_rest_counted(write_manifest: WriteManifest) -> None:
    path = write_manifest(
        [
            HEADER,
            ["p1", "1", "ct/0.png", "mri/0.png", "registered", "0.4"],
            ["p2", "0", "ct/1.png", "mri/1.png", "registered", "2.1"],
            ["p3", "1", "ct/2.png", "mri/2.png", "failed", "9.5"],
            ["p3", "1", "ct/3.png", "mri/3.png", "failed", "9.5"],
            ["p4", "0", "ct/4.png", "", "failed", "8.0"],
            ["p5", "1", "ct/5.png", "mri/5.png", "same-frame", ""],
        ]
    )
    loaded = inspect_manifest(path, 16)
    assert loaded.unregistered == ("p3: registration failed; its 2 pairs may show two places",)
    said = [warning for warning in loaded.named if "registered" in warning]
    assert said == [
        "CT and MRI of 2 patients could not be registered",
        "CT and MRI of 2 patients were registered; two registrations of a patient agree within "
        "2.1 mm",
    ]
    assert "not every slice is registered to those it is paired with" in loaded.warnings
    assert loaded.problems == []


def test_a_figure_that_is_no_number_is_passed_over(write_manifest: WriteManifest) -> None:
    path = write_manifest([HEADER, ["p1", "1", "ct/0.png", "mri/0.png", "registered", "a little"]])
    assert not any("agree" in warning for warning in inspect_manifest(path, 16).named)
