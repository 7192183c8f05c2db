"""Patients come in batches of whole patients, in order, however they are read."""

from pathlib import Path

import pytest

from securefed.data.folders import read
from securefed.data.manifest import Manifest
from securefed.data.patient_images import read_patients
from securefed.prediction import patients
from securefed.prediction.ahead import ahead
from securefed.prediction.model import load_model
from securefed.prediction.predict import predict
from tests.prediction.conftest import strangers, trained

__all__ = ["strangers", "trained"]  # fixtures


@pytest.fixture
def manifest(strangers: Path) -> Manifest:
    return read(strangers, ("ct", "mri"), labelled=False)


@pytest.mark.parametrize("rows", [1, 20, 10_000])
def test_every_patient_comes_once_and_whole_in_order(
    rows: int, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patients, "BATCH", rows)
    sizes, seen = [], []
    for batch, problems in patients.batches(manifest, 32, "m"):
        assert not problems
        sizes.append(sum(patient.slices for patient in batch))
        assert sizes[-1] <= rows or len(batch) == 1
        seen += [patient.patient_id for patient in batch]
    assert seen == list(dict.fromkeys(row.patient_id for row in manifest.rows))
    assert sum(sizes) == len(manifest.rows)


def test_no_more_than_one_batch_is_read_ahead(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patients, "BATCH", 20)
    begun = []

    def counted(*asked: object) -> object:
        begun.append(1)
        return read_patients(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(patients, "read_patients", counted)
    for number, _ in enumerate(ahead(patients.batches(manifest, 32, "m")), start=1):
        assert len(begun) <= number + 1
    assert len(begun) == number > 10


def test_what_a_thread_cannot_read_is_raised_to_the_caller(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(patients, "read_patients", broken)
    with pytest.raises(MemoryError):
        next(ahead(patients.batches(manifest, 32, "m")))


def test_items_come_in_order_and_once() -> None:
    assert list(ahead(iter([3, None, 0, 5]))) == [3, None, 0, 5]
    assert list(ahead(iter(()))) == []


def test_answers_do_not_depend_on_the_size_of_a_batch(
    trained: Path, strangers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found = load_model(trained), []
    for rows in (1, 10_000):
        monkeypatch.setattr(patients, "BATCH", rows)
        found.append(predict(model, strangers, anyway=True))
    for one, other in zip(*found, strict=True):
        assert (one.patient_id, one.unlike, one.missing) == (
            other.patient_id,
            other.unlike,
            other.missing,
        )
        assert one.logit == pytest.approx(other.logit, abs=1e-5)  # sums in another order
