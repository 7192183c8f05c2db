"""What a client draws for one round, and when it lets go of it.

Each secret is dropped as soon as nothing needs it any more. Python does not promise that memory is
cleared: dropped means that no later step, error or snapshot of the client can give it away.
"""

from collections.abc import Callable
from typing import TypeVar

from protocols.encapsulation import SEED_BYTES, DecapsulationKey
from protocols.errors import WrongStage
from protocols.key_agreement import KEY_BYTES, EphemeralKey, mask_key_of
from protocols.parameters import RoundRules

T = TypeVar("T")


class Secrets:
    """The secrets of one client in one round.

    Attributes:
        channel, kem: the two private keys for boxes, until the vector is masked.
        mask_secret: shared among the neighbours; until it is. `mask` and the seeds for pairs follow
            from it.
        mask: the private key for pairwise masks, until the secrets are shared.
        self_mask_seed: until the vector is masked.
    """

    def __init__(self, entropy: Callable[[int], bytes], place: int, rules: RoundRules) -> None:
        self._channel: EphemeralKey | None = EphemeralKey(entropy(KEY_BYTES))
        self._kem: DecapsulationKey | None = DecapsulationKey(entropy(SEED_BYTES))
        secret = entropy(KEY_BYTES)
        self._mask_secret: bytes | None = secret
        self._mask: EphemeralKey | None = mask_key_of(secret, place, rules)
        self._self_mask_seed: bytes | None = entropy(KEY_BYTES)

    @property
    def channel(self) -> EphemeralKey:
        return _still(self._channel)

    @property
    def kem(self) -> DecapsulationKey:
        return _still(self._kem)

    @property
    def mask_secret(self) -> bytes:
        return _still(self._mask_secret)

    @property
    def mask(self) -> EphemeralKey:
        return _still(self._mask)

    @property
    def self_mask_seed(self) -> bytes:
        return _still(self._self_mask_seed)

    def shared(self) -> None:
        """Both secrets are shared, and all keys of pairs derived."""
        self._mask = self._mask_secret = None

    def masked(self) -> None:
        """The vector is masked."""
        self._channel = self._kem = self._self_mask_seed = None


def _still(secret: T | None) -> T:
    if secret is None:
        raise WrongStage("a secret of this round was dropped after its last use")
    return secret
