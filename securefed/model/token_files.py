"""Tokens on disk: what frozen encoders make of a data set's images, computed once for all runs.

A file is of one group of patients under one pair of encoders. Its name is a digest of all that its
bits depend on (images, which of them are there, weights, the network's shape, the machine's kind of
arithmetic), so that nothing is taken for something else, and a run is the same bit by bit with
files and without. What is not whole, or was made for another name, is made again.

Tokens tell about patients as images do: files are their owner's alone, in a folder that belongs to
the data set and never to a run. Not protected against: whoever may write there. Who can replace
tokens can replace the images too.
"""

import hashlib
import logging
import os
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from securefed.errors import SecureFedError
from securefed.files import create_private, read_bounded
from securefed.model.encoding import Encode, tokens_of
from securefed.model.network import ENCODER, FusionNetwork
from securefed.model.patients import PatientTensors

FORMAT = b"securefed tokens 2"
SUFFIX = ".tokens"
TOKENS = "tokens"  # the one tensor of a file
MOST_BYTES = 4 * 2**30  # of a folder; the files that were used longest ago go first
HEADER_BYTES = 4096  # what safetensors writes before the tensors, and more
DIGEST_BYTES = 32


class TokenFiles:
    """The files of one data set.

    Args:
        folder: the data set's own, made when there is something to keep.
        most_bytes: what it may hold; a larger group is not kept.
        encode: makes what is not there.
    """

    def __init__(
        self, folder: Path, most_bytes: int = MOST_BYTES, encode: Encode = tokens_of
    ) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._encode = encode
        self._held_bytes: int | None = None  # by the folder, when it was last looked at and since

    def tokens_of(self, network: FusionNetwork, group: PatientTensors) -> PatientTensors:
        """As `encoding.tokens_of`, from the disk where it holds them.

        A disk that cannot be used costs time, never the run.
        """
        if not len(group) or not self._ours():
            return self._encode(network, group)
        name = _digest(network, group)
        path = self._folder / f"{name.hex()}{SUFFIX}"
        kept = _read(path, name, _shape(network, group))
        if kept is not None:
            with suppress(OSError):
                os.utime(path)
            return replace(group, images=kept.to(group.images.device))
        made = self._encode(network, group)
        try:
            self._keep(path, name, save({TOKENS: made.images.cpu().contiguous()}))
        except OSError as error:
            text = "tokens are not kept: cannot write %s: %s"
            logging.getLogger(__name__).warning(text, path, error.strerror)
        return made

    def _ours(self) -> bool:
        """Whether the folder is its user's alone, or not made yet; a link or another's is not used.

        Otherwise who put it there reads, or chooses, what patients are made into.
        """
        try:
            about = self._folder.lstat()
        except OSError:
            return True
        mine = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
        if mine and not about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return True
        logging.getLogger(__name__).warning(
            "tokens are not kept: %s is not a folder of yours alone (mode 0700)", self._folder
        )
        return False

    def _keep(self, path: Path, name: bytes, content: bytes) -> None:
        size = DIGEST_BYTES + len(content)
        if size > self._most_bytes:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(size)
        draft = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
        try:
            create_private(draft, _seal(name, content) + content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Looks at the folder once, and when it is full: a thousand hospitals keep a file each.

        What other processes put there meanwhile is noticed by then.
        """
        held = self._held_bytes
        if held is None or held + size > self._most_bytes:
            held = self._freed(max(size, self._most_bytes // 16))
        self._held_bytes = held + size

    def _freed(self, room: int) -> int:
        """Bytes that the folder holds once there is room for so many more."""
        found = [(path.stat(), path) for path in self._folder.glob(f"*{SUFFIX}")]
        held = sum(each.st_size for each, _ in found)
        for each, path in sorted(found, key=lambda one: one[0].st_mtime):
            if held + room <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            held -= each.st_size
        return held


def _shape(network: FusionNetwork, group: PatientTensors) -> torch.Size:
    """Of the tokens: (patients, modalities, slices, places, width)."""
    return torch.Size((len(group), *tokens_of(network, group[:0]).images.shape[1:]))


def _digest(network: FusionNetwork, group: PatientTensors) -> bytes:
    """Of everything that the bits of the tokens depend on."""
    device = group.images.device
    kind = torch.backends.cpu.get_cpu_capability()
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    arithmetic = torch.__version__, device.type, kind, torch.get_num_threads()
    digest = hashlib.sha256(FORMAT + repr((arithmetic, network.shape, group.modalities)).encode())
    weights = ((n, t) for n, t in network.state_dict().items() if n.startswith(ENCODER))
    for name, tensor in (*weights, ("images", group.images), ("present", group.present)):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.digest()


def _seal(name: bytes, content: bytes) -> bytes:
    # With the name: a file of another group is damaged under this one's.
    return hashlib.sha256(name + content).digest()


def _read(path: Path, name: bytes, shape: torch.Size) -> torch.Tensor | None:
    """What a file holds; None where there is none, or it is not the one that was written."""
    most = DIGEST_BYTES + HEADER_BYTES + shape.numel() * torch.float32.itemsize
    try:
        data = read_bounded(path, most)
        content = data[DIGEST_BYTES:]
        if data[:DIGEST_BYTES] != _seal(name, content):
            return None
        tokens = load(content).get(TOKENS)
    except (SecureFedError, SafetensorError):
        return None
    fits = tokens is not None and (tokens.shape, tokens.dtype) == (shape, torch.float32)
    return tokens if fits else None
