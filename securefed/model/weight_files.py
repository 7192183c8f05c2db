"""Files of encoders' weights: those that ship with SecureFed, and any that a run is given.

A file is safetensors. Tensors are named as in the network (encoder_NAME.layers...), or without a
modality (encoder.layers...), which is for every modality that has no weights of its own: those may
end before the encoder's 1x1 bottleneck, which then starts at random, as the run's seed has it.
Metadata says what they are (encoder, width) and where they are from (source, licence).

Whoever names a file declares its weights to be public: encoders that do not train are not noised,
so no patient of the run may have been used to make them. Nothing here can see whether one was.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from securefed.errors import ConfigurationError
from securefed.files import write_atomically
from securefed.model.network import ENCODER, FusionNetwork, encoder_of
from securefed.model.volumes import inflated

FORMAT = "1"
OF_SLICES = {"compact3d": "compact"}  # encoder of volumes -> the same of slices
MOST_BYTES = 2**30
ANY = "any"  # width of weights that end before the bottleneck
MAKE = "make the file with securefed pretrain or securefed convert-weights"
OF_ALL = "encoder."  # how the names of weights for every modality begin


@dataclass(frozen=True)
class Origin:
    """A file that encoders start from.

    Attributes:
        sha256: of the file, hex.
        source, licence: in words, as the file says; "" where it does not.
    """

    sha256: str
    source: str
    licence: str


def digest(origins: Sequence[Origin]) -> str:
    """Of all files together: of one its own SHA-256, of several that of theirs, one by one."""
    if len(origins) == 1:
        return origins[0].sha256
    return hashlib.sha256(b"".join(bytes.fromhex(each.sha256) for each in origins)).hexdigest()


def shipped() -> Path:
    """The weights that come with the package: of scenes, for every modality."""
    return Path(str(resources.files("securefed.model") / "weights" / "compact.safetensors"))


def write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write weights with their metadata; the same are the same bytes, since a run records them."""
    file = tensors_to_bytes(dict(tensors), metadata=dict(about))
    # safetensors keeps metadata in a hash map with a random order.
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format keeps the tensors aligned
    write_atomically(path, len(text).to_bytes(8, "little") + text + file[end:])


def load(network: FusionNetwork, *paths: Path) -> tuple[Origin, ...]:
    """Put weights into a network's encoders; returns where they are from, file by file.

    The encoders are convolutions, so weights made at one image size serve every other, and those of
    compact an encoder of volumes. Weights of modalities that the network has not are left where
    they are.

    Raises:
        ConfigurationError: a file is for another encoder or width, or they do not hold all
            encoders, whole, finite and nothing else; the network is then unchanged.
    """
    tensors: dict[str, Tensor] = {}
    origins = []
    for path in paths:
        more, origin = _read(network, path)
        tensors |= more
        origins.append(origin)
    prefixes = [f"{encoder_of(modality)}." for modality in network.shape.modalities]
    for_all = {n.removeprefix(OF_ALL): tensors.pop(n) for n in [*tensors] if n.startswith(OF_ALL)}
    if for_all:
        alone = [own for own in prefixes if not any(name.startswith(own) for name in tensors)]
        for own in alone:
            tensors |= _bottleneck(network, own) | {own + n: t for n, t in for_all.items()}
    foreign = [n for n in tensors if n.startswith(ENCODER) and not n.startswith(tuple(prefixes))]
    for name in foreign:
        del tensors[name]
    _require_whole(network, tensors, ", ".join(path.name for path in paths))
    network.load_state_dict(tensors, strict=False)
    return tuple(origins)


def _bottleneck(network: FusionNetwork, encoder: str) -> dict[str, Tensor]:
    """The last layer of one of its encoders."""
    own = {name: t for name, t in network.state_dict().items() if name.startswith(encoder)}
    last = [*own][-1].rsplit(".", 1)[0]
    return {name: t for name, t in own.items() if name.startswith(last)}


def _read(network: FusionNetwork, path: Path) -> tuple[dict[str, Tensor], Origin]:
    try:
        if not path.is_file():  # a folder, or what would be waited for
            raise FileNotFoundError("there is no such file")
        if path.stat().st_size > MOST_BYTES:
            raise OSError(f"it has more than {MOST_BYTES / 2**30:g} GiB")
        with safe_open(path, framework="pt") as weights:
            about = weights.metadata() or {}
            found = {key: weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118
        if not all(f"{key}{value}".isprintable() for key, value in about.items()):
            raise OSError("what it says of itself has control characters")
        if not all(tensor.is_floating_point() for tensor in found.values()):
            raise OSError("it holds values that are no real numbers")
        tensors = {key: tensor.float() for key, tensor in found.items()}
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(
            f"cannot read public weights {path.name}: {error}", hint=MAKE
        ) from None
    shape, own = network.shape, network.state_dict()
    flat = OF_SLICES.get(shape.encoder)
    if flat and about.get("encoder") == flat:
        first = f"{encoder_of(shape.modalities[0])}."  # as every other, for weights of all
        likes = {key: own.get(key.replace(OF_ALL, first, 1), tensors[key]) for key in tensors}
        tensors = {key: inflated(value, likes[key]) for key, value in tensors.items()}
        about["encoder"] = shape.encoder
    wanted = {"encoder": shape.encoder, "width": str(shape.width)}
    for key, value in wanted.items():
        if about.get(key) not in (value, ANY):
            raise ConfigurationError(
                f"the public weights are for model.{key} {about.get(key)}, not {value}",
                hint="use that value, or model.initialisation: random with "
                "model.train_encoders: true",
            )
    return tensors, Origin(sha256, about.get("source", ""), about.get("licence", ""))


def _require_whole(network: FusionNetwork, tensors: Mapping[str, Tensor], file: str) -> None:
    wanted = {
        name: value.shape
        for name, value in network.state_dict().items()
        if name.startswith(ENCODER)
    }
    for name in sorted(wanted.keys() ^ tensors.keys()):
        what = "lacks" if name in wanted else "holds, beside the encoders,"
        raise ConfigurationError(
            f"the public weights in {file} are not usable: it {what} {name}", hint=MAKE
        )
    for name, value in tensors.items():
        if value.shape != wanted[name]:
            raise ConfigurationError(
                f"the public weights in {file} are not usable: {name} has shape "
                f"{tuple(value.shape)}, the network's has {tuple(wanted[name])}",
                hint=MAKE,
            )
        if not bool(value.isfinite().all()):
            raise ConfigurationError(
                f"the public weights in {file} are not usable: {name} holds non-finite values",
                hint=MAKE,
            )
