"""The shipped public weights of the compact encoders: where they are, how they were made.

`securefed pretrain` makes the file again. It is safetensors, half precision (about 200 kB), with
its provenance as metadata: generator settings, seed, slices, slice AUC on held-out public phantoms.
run.json records the SHA-256 of the file that a run started from.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import nn

from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.data.phantom_settings import SHOWS
from securefed.errors import ConfigurationError
from securefed.files import write_atomically
from securefed.model.auc import area_of_scores
from securefed.model.encoders import encode
from securefed.model.network import ENCODER, FusionNetwork, encoder_of
from securefed.model.pretraining import Readout, Schedule, pretrain
from securefed.model.volumes import inflated

SHIPPED = {"ct": "compact", "mri": "compact"}  # of others compact-MODALITY
OF_SLICES = {"compact3d": "compact"}  # encoder of volumes -> the same of slices
# Hospitals of a run are sites 0 to 999 (federation.clients); these are nobody's.
PUBLIC_SITES = range(1_000_000, 1_000_020)
HELD_OUT_SITES = range(1_001_000, 1_001_004)


@dataclass(frozen=True)
class PublicSet:
    """Slices of one modality with evidence.

    Attributes:
        images: (slices, size, size).
        evidence: (slices,), whether a slice shows the modality's finding.
    """

    images: NDArray[np.uint8]
    evidence: NDArray[np.bool_]


def public_phantoms(
    spec: PhantomSpec, sites: range, per_site: int, seed: int
) -> dict[str, PublicSet]:
    """Slices of phantoms of sites that no run uses, by modality."""
    patients = [
        patient
        for index in sites
        for patient in generate(spec, SiteProfile.draw(spec, index, seed), per_site, seed)
    ]
    return {
        modality: PublicSet(
            images=np.concatenate([each.patient.images_of(modality) for each in patients]),
            evidence=np.concatenate([each.evidence_of(modality) for each in patients]),
        )
        for modality in spec.modalities
    }


def make(
    path: Path,
    *,
    modalities: tuple[str, ...],
    encoder: str,
    width: int,
    image_size: int,
    patients: int,
    schedule: Schedule,
    seed: int,
    progress: Callable[[str, float], None],
) -> dict[str, str]:
    """Train an encoder of each modality on public phantoms and write them; returns the metadata."""
    spec = PhantomSpec(_shown(modalities), image_size, missing_query=0.0, missing_context=0.0)
    train = public_phantoms(spec, PUBLIC_SITES, max(1, patients // len(PUBLIC_SITES)), seed)
    held_out = public_phantoms(spec, HELD_OUT_SITES, max(1, patients // 20), seed)
    tensors: dict[str, torch.Tensor] = {}
    about = {
        "format": "1",
        "encoder": encoder,
        "width": str(width),
        "image_size": str(image_size),
        "source": "phantoms, single-modality evidence per slice, no pairs",
        "phantom": json.dumps(asdict(spec)),
        "schedule": json.dumps(asdict(schedule)),
        "patients": str(patients),
        "seed": str(seed),
    }
    for modality in modalities:
        name, public, test = encoder_of(modality), train[modality], held_out[modality]
        network, readout = pretrain(
            encoder,
            width,
            public.images,
            public.evidence,
            seed,
            schedule,
            partial(progress, name),
        )
        auc = _slice_auc(network, readout, test.images, test.evidence)
        about[f"{name}_held_out_slice_auc"] = f"{auc:.4f}"
        for key, value in network.state_dict().items():
            tensors[f"{name}.{key}"] = value.half()
    write_atomically(path, _with_sorted_metadata(tensors_to_bytes(tensors, metadata=about)))
    return about


def _shown(modalities: tuple[str, ...]) -> tuple[str, ...]:
    """What phantoms show, so that there is more than one finding: slices without evidence too."""
    if len({SHOWS.get(name) for name in modalities}) > 1:
        return modalities
    return (*modalities, "mri" if "ct" in modalities else "ct")


def _with_sorted_metadata(file: bytes) -> bytes:
    # safetensors keeps metadata in a hash map with a random order; run.json records the file's
    # digest, so whoever makes the same weights again shall get the same bytes.
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format keeps the tensors aligned
    return len(text).to_bytes(8, "little") + text + file[end:]


@torch.no_grad()
def _slice_auc(
    network: nn.Module, readout: Readout, images: NDArray[np.uint8], evidence: NDArray[np.bool_]
) -> float:
    parts = torch.split(torch.from_numpy(images), 256)
    logits = torch.cat([readout(encode(network, part.float() / 255)) for part in parts])
    return area_of_scores(logits.numpy(), evidence)


def shipped(modality: str) -> Path:
    """The weights of a modality that come with the package.

    Raises:
        ConfigurationError: there are none.
    """
    name = SHIPPED.get(modality, f"compact-{modality}")
    path = Path(str(resources.files("securefed.model") / "weights" / f"{name}.safetensors"))
    if not path.is_file():
        raise ConfigurationError(
            f"there are no public weights of {modality}",
            hint="use model.initialisation: random with model.train_encoders: true",
        )
    return path


def load(network: FusionNetwork, *paths: Path) -> str:
    """Put public weights into a network's encoders; returns the file's SHA-256.

    The encoders are convolutions, so weights made at one image size serve every other, and those of
    compact an encoder of volumes. Encoders of modalities that the network has not are left where
    they are. Of several files the digest is that
    of their digests, one after another.

    Raises:
        ConfigurationError: a file is for another encoder or width, or they do not hold all
            encoders, whole, finite and nothing else; the network is then unchanged.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        tensors |= _read(network, path)
    own = tuple(f"{encoder_of(modality)}." for modality in network.shape.modalities)
    foreign = [name for name in tensors if name.startswith(ENCODER) and not name.startswith(own)]
    for name in foreign:
        del tensors[name]
    _require_whole(network, tensors, ", ".join(path.name for path in paths))
    network.load_state_dict(tensors, strict=False)
    digests = [hashlib.sha256(path.read_bytes()) for path in paths]
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(each.digest() for each in digests)).hexdigest()


def _read(network: FusionNetwork, path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as weights:
            about = weights.metadata() or {}
            tensors = {key: weights.get_tensor(key).float() for key in weights.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(f"cannot read public weights {path.name}: {error}") from None
    shape = network.shape
    flat = OF_SLICES.get(shape.encoder)
    if flat and about.get("encoder") == flat:
        own = network.state_dict()
        tensors = {key: inflated(value, own.get(key, value)) for key, value in tensors.items()}
        about["encoder"] = shape.encoder
    wanted = {"encoder": shape.encoder, "width": str(shape.width)}
    for key, value in wanted.items():
        if about.get(key) != value:
            raise ConfigurationError(
                f"the public weights are for model.{key} {about.get(key)}, not {value}",
                hint="use that value, or model.initialisation: random with "
                "model.train_encoders: true",
            )
    return tensors


def _require_whole(network: FusionNetwork, tensors: Mapping[str, torch.Tensor], file: str) -> None:
    wanted = {
        name: value.shape
        for name, value in network.state_dict().items()
        if name.startswith(ENCODER)
    }
    for name in sorted(wanted.keys() ^ tensors.keys()):
        what = "lacks" if name in wanted else "holds, beside the encoders,"
        raise ConfigurationError(f"the public weights in {file} are not usable: it {what} {name}")
    for name, value in tensors.items():
        if value.shape != wanted[name]:
            raise ConfigurationError(
                f"the public weights in {file} are not usable: {name} has shape "
                f"{tuple(value.shape)}, the network's has {tuple(wanted[name])}"
            )
        if not bool(value.isfinite().all()):
            raise ConfigurationError(
                f"the public weights in {file} are not usable: {name} holds non-finite values"
            )
