"""A released model, opened to be used: model.safetensors alone says how it is to be used."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from securefed.data.harmonisation import harmonised
from securefed.data.samples import ExampleKind, Patient
from securefed.errors import RunError
from securefed.model.calibration import Calibration, Temperature
from securefed.model.encoding import tokens_of
from securefed.model.likeness import Reference
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.scores import score
from securefed.record import model_file
from securefed.record.directory import read_about, read_tensors
from securefed.training.patients import stack

SUFFIX = ".safetensors"
LARGEST_FILE = 4 * 2**30  # bytes


@dataclass(frozen=True)
class ReleasedModel:
    """A model file, read and checked.

    Attributes:
        network: in evaluation mode, on the CPU.
        max_slices: of an example, as in training: more are subsampled.
        example: what it answers for: a patient, a study or a slice.
        harmonise: whether scans come to a standard scale first, as in training.
        run: whose it is, as in ledgers; "" where the file does not say.
        digest: SHA-256 of the file, hex; with personal parameters, of it and their file's SHA-256.
        privacy: what its training promises, in words.
        reference: what scans like those that it was trained on look like; None where nobody knows.
        calibration: how its probabilities fit the held-out patients of its run, and the temperature
            that mends them; None where its file does not say.
        cautions: why it is not to be used on patients, in words; none where nothing speaks against.
        about: what its file says of itself, by key.
    """

    network: FusionNetwork = field(repr=False)
    max_slices: int
    example: ExampleKind
    harmonise: bool
    run: str
    digest: str
    privacy: str
    reference: Reference | None
    calibration: Calibration | None
    cautions: tuple[str, ...]
    about: Mapping[str, str] = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart, in the order of its logits; none: tumour or not."""
        return self.network.shape.classes

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it takes, in its order; a patient may lack any of them, not all."""
        return self.network.shape.modalities

    @property
    def image_size(self) -> int:
        """Edge of a slice in pixels."""
        return self.network.shape.image_size

    def stacked(self, patients: Sequence[Patient]) -> PatientTensors:
        """The examples of patients as the network sees them: on its scale, so many slices."""
        seen = harmonised(patients) if self.harmonise else patients
        return stack(seen, self.max_slices)

    @property
    def temperature(self) -> Temperature | None:
        """What calibrates its probabilities; None where nothing does."""
        return self.calibration.temperature if self.calibration else None

    @property
    def uncalibrated(self) -> str:
        """Why nothing does, in words; "" where something does."""
        if self.classes:
            return "no temperature follows from the counts of several classes"
        if self.calibration is None:
            return "its file says nothing of held-out patients (docs/predict.md, calibration)"
        return self.calibration.why_not

    def logits(self, patients: Sequence[Patient]) -> Tensor:
        """As `logits_of`, of patients with the modalities and the size of the model."""
        return self.logits_of(self.stacked(patients))

    def logits_of(self, group: PatientTensors) -> Tensor:
        """(examples,) logits, of each patient's in turn; the sigmoid is the predicted probability.
        Of several classes (examples, classes), whose softmax it is.

        Args:
            group: what `stacked` gave.

        Raises:
            RunError: a logit is not a number: the file holds no trained model.
        """
        tokens = tokens_of(self.network, group)
        logits = score(self.network, tokens, encoded=True)
        if not bool(logits.isfinite().all()):
            raise RunError("the model's answer is not a number; it cannot be used")
        return logits


def load_model(path: str | Path, personal: str | Path | None = None) -> ReleasedModel:
    """Open model.safetensors, or that of a run's folder.

    Args:
        personal: a hospital's own parameters (personal.safetensors), which take the place of the
            released ones.

    Raises:
        RunError: there is none, it is damaged, or it does not say how it is to be used.
    """
    file = Path(path) / model_file.NAME if Path(path).is_dir() else Path(path)
    if not file.is_file() or file.suffix != SUFFIX:
        raise RunError(
            f"there is no model at {file}",
            hint=f"give a finished run's folder, or its {model_file.NAME}",
        )
    if file.stat().st_size > LARGEST_FILE:
        raise RunError(f"{file} has more than {LARGEST_FILE / 2**30:g} GiB; it is no model of ours")
    about = read_about(file)
    settings, task, max_slices = model_file.described(about, file)
    network = FusionNetwork(NetworkShape.of(settings, task))
    tensors = model_file.read_parameters(file)
    _require_fit(network, tensors, file)
    digest = hashlib.sha256(file.read_bytes())
    if personal:
        own = Path(personal)
        tensors |= read_tensors(own)
        _require_fit(network, tensors, own)
        # With another hospital's parameters it is another model.
        digest.update(hashlib.sha256(own.read_bytes()).digest())
    network.load_state_dict(tensors)
    return ReleasedModel(
        network=network.eval().requires_grad_(False),
        max_slices=max_slices,
        example=task.example,
        harmonise=settings.harmonise,
        run=about.get("run", ""),
        digest=digest.hexdigest(),
        privacy=about.get("privacy", "not known"),
        reference=model_file.read_reference(file, network.shape.modalities),
        calibration=model_file.read_calibration(file),
        cautions=model_file.cautions(about),
        about={name: str(value) for name, value in about.items()},
    )


def _require_fit(network: FusionNetwork, tensors: Mapping[str, Tensor], file: Path) -> None:
    expected = network.state_dict()
    if tensors.keys() != expected.keys() or any(
        tensors[name].shape != value.shape or tensors[name].dtype != value.dtype
        for name, value in expected.items()
    ):
        raise RunError(
            f"{file} does not hold the parameters of the network that the model describes",
            hint="take both files from one run, as it wrote them",
        )
    if not all(bool(torch.isfinite(each).all()) for each in tensors.values()):
        raise RunError(f"{file} holds parameters that are not numbers")
