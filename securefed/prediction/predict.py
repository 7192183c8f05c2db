"""What a model says of every patient of a manifest, or of its examples, batch by batch."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from securefed.data.folders import read as read_manifest
from securefed.data.manifest import Manifest
from securefed.data.samples import Example, Patient
from securefed.data.table import Problem
from securefed.errors import DataError
from securefed.model.patients import PatientTensors
from securefed.prediction.ahead import ahead
from securefed.prediction.model import ReleasedModel
from securefed.prediction.patients import batches
from securefed.prediction.table import DIGITS, NOT_KNOWN, Prediction
from securefed.wording import first_of


def predict(
    model: ReleasedModel, patients: str | Path, *, anyway: bool = False
) -> list[Prediction]:
    """What a model says of every patient of a manifest or a folder, or of each of its examples;
    labels are not looked at.

    Args:
        anyway: answer also of scans unlike those of the training.

    Raises:
        DataError: nothing there, not a manifest, none of the model's modalities, or a line or an
            image that cannot be used: `securefed predict` goes on with the others.
        RunError: the model gives no number.
    """
    predicting = Predicting(model, Path(patients), labelled=False, anyway=anyway)
    problems, found = list(predicting.problems), list[Prediction]()
    for answered in predicting.answers():
        problems += answered.problems
        found += answered.predictions
    if problems:
        raise DataError(
            f"{patients}: {first_of(problems)}", hint="securefed data check lists every problem"
        )
    return found


@dataclass(frozen=True)
class Answered:
    """What came of a batch.

    Attributes:
        labels: of `predictions`, in the same order.
        problems: rows whose images cannot be read.
    """

    labels: Sequence[int] = field(repr=False)
    predictions: Sequence[Prediction]
    problems: Sequence[Problem]


class Predicting:
    """All patients of a manifest or a folder, before a model.

    Attributes:
        problems: lines of the manifest that cannot be used.
        notes: what the model's user should know of the manifest.
        digests: of the model and of the data, as every line has them.
    """

    def __init__(
        self,
        model: ReleasedModel,
        path: Path,
        *,
        labelled: bool,
        anyway: bool = False,
        further: Sequence[str] = (),
    ) -> None:
        """Read the manifest; images are opened batch by batch.

        Args:
            labelled: labels are there and wanted; otherwise none is looked at.
            anyway: answer also of scans unlike those of the training.
            further: columns of the manifest that are kept (`further`).

        Raises:
            DataError: nothing there, not a manifest, or it has no modality of the model.
        """
        self._model, self._name, self._anyway = model, path.resolve().name, anyway
        self._manifest = read_manifest(
            path,
            model.modalities,
            labelled=labelled,
            example=model.example,
            further=further,
            classes=model.classes,
        )
        self.problems, self.notes = self._manifest.problems, self._manifest.notes
        self.digests = model.digest[:DIGITS], _digest(self._manifest)[:DIGITS]

    @property
    def examples(self) -> int:
        """How many the manifest has."""
        return len({(row.patient_id, row.example) for row in self._manifest.rows})

    @property
    def patient_ids(self) -> frozenset[str]:
        """Whom the manifest names."""
        return frozenset(row.patient_id for row in self._manifest.rows)

    def further(self, column: str) -> dict[tuple[str, str], str]:
        """What each example has in a further column, by patient and example; several with "+"."""
        cells: dict[tuple[str, str], set[str]] = {}
        for row in self._manifest.rows:
            cells.setdefault((row.patient_id, row.example), set()).add(row.further[column])
        return {example: "+".join(sorted(each - {""})) for example, each in cells.items()}

    @property
    def unit(self) -> str:
        """What a line is of, in a word."""
        return self._model.example

    def answers(self, done: frozenset[tuple[str, str]] = frozenset()) -> Iterator[Answered]:
        """Every batch in turn, those left out that are `done`: patients and their examples.

        Raises:
            RunError: the model gives no number.
        """
        # Pictures are decoded, and looked at, beside the network and not before it.
        for seen, problems in ahead(self._seen(done)):
            if seen is None:
                yield Answered([], [], problems)
                continue
            pairs = [
                (made, example.label)
                for made, (_, example) in zip(self._predictions(seen), seen.examples, strict=True)
                if (made.patient_id, made.example) not in done
            ]
            yield Answered([label for _, label in pairs], [made for made, _ in pairs], problems)

    def _seen(
        self, done: frozenset[tuple[str, str]]
    ) -> Iterator[tuple["_Seen | None", Sequence[Problem]]]:
        """Every batch as the network gets it, None where no image of it can be read."""
        reference = self._model.reference
        for patients, problems in batches(self._manifest, self._model.image_size, self._name, done):
            if not patients:
                yield None, problems
                continue
            group = self._model.stacked(patients)
            unlike = reference.unlike(group) if reference else [NOT_KNOWN] * len(group)
            examples = [(patient, each) for patient in patients for each in patient.examples]
            yield _Seen(examples, group, unlike), problems

    def _predictions(self, seen: "_Seen") -> list[Prediction]:
        logits = self._model.logits_of(seen.group)
        answers = (
            _of_classes(self._model, logits)
            if self._model.classes
            else _of_tumours(self._model, logits)
        )
        found = [
            Prediction(
                patient_id=patient.patient_id,
                site=patient.site,
                example=example.name,
                unlike=strange,
                **answer,
                slices=min(len(example.slices), self._model.max_slices),
                missing="+".join(
                    name for name, _, there in patient if not there[list(example.slices)].any()
                ),
                model=self.digests[0],
                data=self.digests[1],
            )
            for (patient, example), answer, strange in zip(
                seen.examples, answers, seen.unlike, strict=True
            )
        ]
        return found if self._anyway else [each.withheld for each in found]


@dataclass(frozen=True)
class _Seen:
    """Examples of a batch, each with its patient, as the network gets them.

    Attributes:
        unlike: how the scans of each are unlike those of the training, in words.
    """

    examples: Sequence[tuple[Patient, Example]] = field(repr=False)
    group: PatientTensors = field(repr=False)
    unlike: Sequence[str]


def _of_tumours(model: ReleasedModel, logits: Tensor) -> Iterator[dict[str, Any]]:
    """What a line has of each of (examples,) logits."""
    probabilities = torch.sigmoid(logits.double())
    calibrated = _calibrated(model, logits)
    for logit, probability, ends in zip(logits, probabilities, calibrated, strict=True):
        names = ("calibrated", "calibrated_low", "calibrated_high")
        yield {
            "probability": round(float(probability), 6),
            **dict(zip(names, ends, strict=True)),
            "logit": round(float(logit), 6),
        }


def _of_classes(model: ReleasedModel, logits: Tensor) -> Iterator[dict[str, Any]]:
    """The same of (examples, classes) logits; no temperature is known of several classes."""
    probabilities = logits.double().softmax(dim=1)
    for each, shares in zip(logits.tolist(), probabilities.tolist(), strict=True):
        called = max(range(len(shares)), key=each.__getitem__)  # the first of equal ones
        yield {
            "called": model.classes[called],
            "probability": round(shares[called], 6),
            "probabilities": tuple(round(share, 6) for share in shares),
            "calibrated": None,
            "calibrated_low": None,
            "calibrated_high": None,
            "logit": round(each[called], 6),
            "logits": tuple(round(logit, 6) for logit in each),
        }


def _calibrated(
    model: ReleasedModel, logits: Tensor
) -> list[tuple[float | None, float | None, float | None]]:
    """A probability and the ends of its interval, for each logit."""
    if model.temperature is None:
        return [(None, None, None)] * len(logits)
    of_each = model.temperature.probabilities(logits.double().numpy())
    return list(zip(*(each.round(6).tolist() for each in of_each), strict=True))


def _digest(manifest: Manifest) -> str:
    """Of the rows, and of which files they name: an image that is replaced is another file.

    Contents are not read for it; who wants to be taken in can be.
    """
    digest = hashlib.sha256(repr(manifest.modalities).encode())
    for row in manifest.rows:
        files = [(name, str(path), path.stat()) for name, path in sorted(row.images.items())]
        told = [(name, path, about.st_size, about.st_mtime_ns) for name, path, about in files]
        digest.update(repr((row.patient_id, row.site, row.slice, told)).encode())
    return digest.hexdigest()
