"""Gradient canaries: made-up records that test a run's own privacy (Nasr et al. 2023).

A canary is a record whose gradient is a fixed direction, longer than the clipping norm. Each one is
in or out of a hospital's records by a fair coin of its own (Steinke, Nasr & Jagielski 2023). The
included ones are drawn, clipped, summed and noised with the patients, by the same code, so that
whoever guesses the coins from what the run releases tests sampling, clipping, noise and accounting
as they are. A canary changes no patient's guarantee: it is one more record, the sampling rate and
the expected batch stay those of the patients alone.

Directions are rows of the orthonormal cosine transform (DCT-II) with random signs,

    d_j[p] = sign[p] * sqrt(2 / P) * cos(pi (2 p + 1) k_j / (2 P)),      k_j distinct, 1 .. P - 1

hence at right angles, so that no canary hides another, and spread over all P shared parameters.
Signs and k come from a seed in `hospitals/NAME/canaries.json` (mode 0600), beside the coins: the
audit needs both; nobody else should have either before the run is over.
"""

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from securefed.errors import ConfigurationError, RunError
from securefed.files import create_private
from securefed.privacy.noise import SeededSource

FILE = "canaries.json"
LARGEST_FILE = 1 << 20
LENGTH = 10.0  # of a canary's gradient, in clipping norms: a clip that does nothing shows at once
LARGEST_TABLE = 1 << 28  # entries of all directions together, 1 GB

Seed = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Coins = Annotated[str, msgspec.Meta(pattern="^[01]+$", max_length=100_000)]


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of canaries.json."""

    schema: Literal[1]
    hospital: str
    parameters: Annotated[int, msgspec.Meta(ge=2)]
    seed: Seed
    coins: Coins
    stress: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0


@dataclass(frozen=True)
class CanarySecret:
    """A run's canaries: what an audit of it must know and an attacker must not.

    Attributes:
        hospital: whose records they are among.
        parameters: P, shared parameters.
        seed: of the directions, 128 bits in hexadecimal.
        included: the coins, (M,).
        stress: how many stress records are beside them (`stress`), all of them included.
    """

    hospital: str
    parameters: int
    seed: str = field(repr=False)
    included: NDArray[np.bool_] = field(repr=False)
    stress: int = 0

    def __len__(self) -> int:
        return len(self.included)

    def directions(self) -> NDArray[np.float32]:
        """All canaries' unit directions, included or not, (M, P)."""
        source = SeededSource(int(self.seed, 16), "canaries", len(self), self.parameters)
        draws = source.uniform(2 * self.parameters - 1)
        signs = np.where(draws[: self.parameters] < 0.5, -1.0, 1.0)
        # The constant row is left out: k runs from 1.
        chosen = 1 + np.argsort(draws[self.parameters :], kind="stable")[: len(self)]
        places = (2 * np.arange(self.parameters) + 1) * (math.pi / (2 * self.parameters))
        rows = np.empty((len(self), self.parameters), np.float32)
        for row, k in zip(rows, chosen, strict=True):
            row[:] = signs * np.cos(k * places) * math.sqrt(2 / self.parameters)
        return rows


def require_room(count: int, parameters: int) -> None:
    """ConfigurationError: more canaries than directions at right angles, or than fit in memory."""
    if not 1 <= count < parameters:
        raise ConfigurationError(
            f"canaries.count is {count}, but {parameters} shared parameters have room for 1 to "
            f"{parameters - 1} canaries at right angles",
            hint="use fewer canaries, or share more (federation.shared)",
        )
    if count * parameters > LARGEST_TABLE:
        raise ConfigurationError(
            f"{count} canaries in {parameters} shared parameters need more than a gigabyte",
            hint=f"set canaries.count to {LARGEST_TABLE // parameters} or less",
        )


def draw(hospital: str, count: int, parameters: int) -> CanarySecret:
    """New canaries: coins and directions from the operating system.

    Raises:
        ConfigurationError: see `require_room`.
    """
    require_room(count, parameters)
    bits = np.frombuffer(secrets.token_bytes((count + 7) // 8), np.uint8)
    included = np.unpackbits(bits)[:count].astype(np.bool_)
    return CanarySecret(hospital, parameters, secrets.token_hex(16), included)


def save(secret: CanarySecret, folder: Path) -> None:
    """Write canaries.json, readable by its owner alone.

    Raises:
        RunError: there is one already, or it cannot be written.
    """
    coins = "".join("1" if each else "0" for each in secret.included)
    stored = _Stored(1, secret.hospital, secret.parameters, secret.seed, coins, secret.stress)
    try:
        # Exclusive, so that canaries of a run that has begun are never replaced.
        content = msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n"
        create_private(folder / FILE, content)
    except OSError as error:
        raise RunError(f"cannot write {folder / FILE}: {error.strerror}") from None


def read(folder: Path) -> CanarySecret:
    """Read and check canaries.json; its content is never part of an error.

    Raises:
        RunError: missing, too large, malformed, or more canaries than directions.
    """
    path = folder / FILE
    try:
        with path.open("rb") as source:
            content = source.read(LARGEST_FILE + 1)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise RunError(f"{path} has over {LARGEST_FILE} bytes")
    try:
        stored = msgspec.json.decode(content, type=_Stored)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RunError(
            f"{path} does not hold canaries", hint="restore the file as the run wrote it"
        ) from None
    included = np.array([coin == "1" for coin in stored.coins])
    if len(included) >= stored.parameters or len(included) * stored.parameters > LARGEST_TABLE:
        raise RunError(f"{path}: {len(included)} canaries in {stored.parameters} parameters")
    return CanarySecret(stored.hospital, stored.parameters, stored.seed, included, stored.stress)


class CanaryRecords:
    """The included canaries as records of a trainer; the others are nowhere.

    Args:
        clip_norm: their gradients are LENGTH times as long; without clipping, of length 1.
        shared: names of the shared parameters, in vector order.
    """

    def __init__(self, secret: CanarySecret, clip_norm: float | None, shared: list[str]) -> None:
        length = LENGTH * clip_norm if clip_norm else 1.0
        told = (secret.hospital, secret.seed, str(secret.included.tolist()), str(secret.stress))
        self.identity = "\0".join(told).encode()
        self._gradients = torch.from_numpy(length * secret.directions()[secret.included])  # (m, P)
        self._shared = shared

    def __len__(self) -> int:
        return len(self._gradients)

    def to(self, device: torch.device) -> None:
        """Move to where training happens."""
        self._gradients = self._gradients.to(device)

    def gradients(self, drawn: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The drawn canaries' gradients, unclipped: name -> (drawn, *parameter shape).

        Args:
            parameters: the trained ones; in those that are not shared a canary has zeros.
        """
        rows = self._gradients[drawn.to(self._gradients.device)]
        sizes = [parameters[name].numel() for name in self._shared]
        pieces = dict(zip(self._shared, torch.split(rows, sizes, dim=1), strict=True))
        return {
            name: pieces[name].view(-1, *parameter.shape)
            if name in pieces
            else parameter.new_zeros((len(rows), *parameter.shape))
            for name, parameter in parameters.items()
        }
