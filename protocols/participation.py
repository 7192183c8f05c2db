"""One client's part in one round: its secrets, and the checks that guard them.

Bonawitz et al. (2017), figure 4, client side, without the order of the steps, which `client`
keeps. Nothing here trusts the server: a set of survivors or a list of keys is used only after
it passed the check named after it. Each check raises a named error and changes nothing that
could be used later: `client` forgets the whole participation then.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

from protocols import messages as m
from protocols.attestations import (
    OfferedKeys,
    check_advert,
    check_confirmation,
    kem_key_of,
    share_digest,
)
from protocols.encapsulation import encapsulate
from protocols.errors import (
    AliveAndDropped,
    BadShare,
    CohortEquivocation,
    DuplicateSender,
    ThresholdMissed,
    UnknownSender,
    WrongRound,
    blaming,
)
from protocols.identity import Roster
from protocols.key_agreement import (
    KEY_BYTES,
    exclusive_or,
    mask_key,
    pair_key,
    pair_seed,
    seed_for,
    self_mask_key,
)
from protocols.mask_stream import Mask
from protocols.parameters import RoundRules
from protocols.round_secrets import Secrets
from protocols.sealing import End, box_key, seal, unseal
from protocols.shamir import SHARE_BYTES, is_element, split


class Stage(IntEnum):
    """What a client last answered in a round."""

    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    CONFIRMED = 4
    UNMASKED = 5


@dataclass(slots=True)
class Participation:
    """One round as one client sees it; everything secret stays out of its repr.

    Attributes:
        channel_keys: place -> X25519 key for boxes, of the neighbours that offered keys.
        kem_keys: place -> their keys of ML-KEM-768, until the secrets are shared.
        pair_keys: X25519 key shared with each of them.
        own_seeds: place -> the seed sealed for it.
        their_seeds: place -> the seed that it sealed for this client.
        held: place -> (self-mask share, mask-key share) that this client keeps for it, its own
            included.
        checked: digest of the mask request whose boxes are in `held`.
        binding: of the round and what this client was asked; empty until it masks.
        survivors: the bit set it confirmed.
    """

    rules: RoundRules
    place: int
    neighbours: frozenset[int]
    stage: Stage
    secrets: Secrets = field(repr=False)
    own: End = field(init=False)
    channel_keys: dict[int, bytes] = field(default_factory=dict, repr=False)
    kem_keys: dict[int, MLKEM768PublicKey] = field(default_factory=dict, repr=False)
    pair_keys: dict[int, bytes] = field(default_factory=dict, repr=False)
    own_seeds: dict[int, bytes] = field(default_factory=dict, repr=False)
    their_seeds: dict[int, bytes] = field(default_factory=dict, repr=False)
    held: dict[int, tuple[bytes, bytes]] = field(default_factory=dict, repr=False)
    checked: bytes = b""
    binding: bytes = b""
    survivors: bytes = b""

    def __post_init__(self) -> None:
        self.own = End(self.place, self.secrets.channel.public, self.secrets.kem.public)

    def accept_adverts(self, roster: Roster, adverts: Iterable[m.Advert]) -> None:
        """Check the neighbours' keys and derive the key shared with each."""
        offered = OfferedKeys(self.own.key, self.own.kem_key, self.secrets.mask.public)
        for advert in adverts:
            with blaming(advert.sender):
                self._accept_advert(roster, advert, offered)

    def _accept_advert(self, roster: Roster, advert: m.Advert, offered: OfferedKeys) -> None:
        check_advert(roster, self.rules, advert)
        if advert.sender not in self.neighbours:
            raise UnknownSender(f"place {advert.sender} is not a neighbour in this round")
        if advert.sender in self.channel_keys:
            raise DuplicateSender(f"place {advert.sender} advertised twice")
        name = self.rules.cohort[advert.sender]
        offered.take(name, advert)
        self.kem_keys[advert.sender] = kem_key_of(name, advert)
        self.channel_keys[advert.sender] = advert.channel_key
        # All keys are used now, so that a bad one is refused before anything is shared.
        self.pair_keys[advert.sender] = pair_key(
            self.secrets.mask, self.place, advert.mask_key, advert.sender, self.rules
        )

    def split_secrets(self, entropy: Callable[[int], bytes]) -> list[m.Box]:
        """Share both secrets among the neighbourhood: own shares kept, the others sealed.

        Raises:
            ThresholdMissed: if too few neighbours offered keys.
        """
        holders = sorted({self.place, *self.channel_keys})
        threshold = self.rules.share_threshold
        if len(holders) < threshold:
            raise ThresholdMissed(
                f"{len(holders)} of {threshold} clients offered keys in"
                f" round {self.rules.round_number}"
            )
        points = [place + 1 for place in holders]  # zero would be the secret itself
        secrets = self.secrets
        of_seed = split(secrets.self_mask_seed, threshold, points, entropy)
        of_key = split(secrets.mask_secret, threshold, points, entropy)
        boxes = []
        for place, shares in zip(holders, zip(of_seed, of_key, strict=True), strict=True):
            if place == self.place:
                self.held[place] = shares
            else:
                seed = seed_for(secrets.mask_secret, self.place, place, self.rules)
                self.own_seeds[place] = seed
                boxes.append(self._seal(place, shares, seed))
        secrets.shared()
        self.kem_keys.clear()
        return boxes

    def _seal(self, recipient: int, shares: tuple[bytes, bytes], seed: bytes) -> m.Box:
        kem_key = self.kem_keys[recipient]
        peer = End(recipient, self.channel_keys[recipient], kem_key.public_bytes_raw())
        fresh = encapsulate(kem_key)
        key = box_key(self.secrets.channel, fresh, self.own, peer, self.rules)
        sealed = seal(key, b"".join((*shares, seed)), self.rules.digest, self.place, recipient)
        digests = self._digests(self.place, recipient, shares)
        return m.Box(recipient, fresh.ciphertext, sealed, *digests)

    def _digests(self, owner: int, holder: int, shares: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        of_seed, of_key = shares
        return (
            share_digest(self.rules, "self mask", owner, holder, of_seed),
            share_digest(self.rules, "mask key", owner, holder, of_key),
        )

    def open_boxes(self, boxes: list[m.Box]) -> None:
        """Take the shares that the neighbours sealed for this client, in place of any before.

        Raises:
            BadCiphertext, BadShare: for a box that does not open, or holds other shares than its
                digests say; `accused` is who sealed it. Nothing was taken.
            UnknownSender, DuplicateSender: for a box that nobody can have sealed.
            ThresholdMissed: if there are too few.
        """
        held, seeds = {self.place: self.held[self.place]}, {}
        for box in boxes:
            if box.place not in self.channel_keys:
                raise UnknownSender(
                    f"a sealed share from place {box.place}, which never advertised"
                )
            if box.place in held:
                raise DuplicateSender(f"two sealed shares from place {box.place}")
            with blaming(box.place):
                held[box.place], seeds[box.place] = self._open(box)
        if len(held) < self.rules.share_threshold:
            raise ThresholdMissed(
                f"{len(held)} of {self.rules.share_threshold} clients shared in"
                f" round {self.rules.round_number}"
            )
        self.held, self.their_seeds = held, seeds

    def _open(self, box: m.Box) -> tuple[tuple[bytes, bytes], bytes]:
        secrets = self.secrets
        peer = End(box.place, self.channel_keys[box.place])
        key = box_key(
            secrets.channel, secrets.kem.open(box.encapsulation), peer, self.own, self.rules
        )
        plain = unseal(key, box.sealed, self.rules.digest, box.place, self.place)
        shares = (plain[:SHARE_BYTES], plain[SHARE_BYTES:-KEY_BYTES])
        # What was dealt is settled here, before this client computes anything: later it could not
        # show that a wrong share was wrong when it came.
        pinned = (box.self_mask_digest, box.mask_key_digest)
        if self._digests(box.place, self.place, shares) != pinned:
            raise BadShare(f"the box from place {box.place} holds other shares than it says")
        if not all(map(is_element, shares)):
            raise BadShare(f"a share from place {box.place} is not a field element")
        return shares, plain[-KEY_BYTES:]

    def masks(self) -> list[Mask]:
        """The self mask, and one pairwise mask for each neighbour that shared."""
        masks = [
            Mask(self_mask_key(self.secrets.self_mask_seed, self.place, self.rules), subtract=False)
        ]
        for place in sorted(self.their_seeds):
            # Of each pair, the later place subtracts what the earlier adds: the same stream only
            # if both were asked the same, noise that nobody can take off otherwise.
            seed = pair_seed(
                self.own_seeds[place], self.place, self.their_seeds[place], place, self.rules
            )
            stream = mask_key(self.pair_keys[place], seed, self.rules, self.binding)
            masks.append(Mask(stream, subtract=place < self.place))
        return masks

    def blinded_seeds(self) -> bytes:
        """For each neighbour that shared, the two seeds of the pair, one under the other.

        Nothing to who has neither: both are uniformly random, and the stream comes from a hash of
        both. If one end drops, its secret is rebuilt, its own seed follows, and with it the other
        end's, even if that one has fallen silent by then.
        """
        return b"".join(
            exclusive_or(self.own_seeds[place], self.their_seeds[place])
            for place in sorted(self.their_seeds)
        )

    def forget_masks(self) -> None:
        """Drop all that masks were made from, once the vector is masked."""
        self.secrets.masked()
        for secrets in (self.pair_keys, self.own_seeds, self.their_seeds):
            secrets.clear()

    def check_survivors(self, bits: bytes) -> frozenset[int]:
        """The survivors in a bit set, if a sum over them may be opened."""
        rules = self.rules
        alive = m.places(bits, len(rules.cohort))
        if len(alive) < rules.minimum_survivors:
            raise ThresholdMissed(
                f"{len(alive)} survivors in round {rules.round_number}, where at least"
                f" {rules.minimum_survivors} are needed"
            )
        if self.place not in alive:
            raise CohortEquivocation("the server asks a client that it does not list as survivor")
        strangers = (alive & self.neighbours) - self.held.keys()
        if strangers:
            raise CohortEquivocation(
                f"place {min(strangers)} is listed as survivor but its shares never arrived here"
            )
        if len(alive & self.held.keys()) < rules.share_threshold:
            raise ThresholdMissed(f"too few neighbours survived in round {rules.round_number}")
        return alive

    def check_dropped(self, alive: frozenset[int], dropped: frozenset[int]) -> None:
        """Return only if nobody would have both kinds of share asked for.

        Whose shares never arrived here may be listed as dropped: others masked with it, this client
        did not, and has nothing to give.
        """
        if alive & dropped:
            # Both kinds of share of one client would open its vector.
            raise AliveAndDropped(f"place {min(alive & dropped)} is listed as alive and dropped")

    def check_confirmations(self, roster: Roster, message: m.UnmaskRequest) -> None:
        """Return only if threshold-many of the neighbourhood signed the same: these very survivors,
        after vectors that answer the same statement."""
        if message.survivors != self.survivors:
            raise CohortEquivocation("the survivors to unmask are not those that were confirmed")
        signed_by = set()
        for confirmation in message.confirmations:
            if confirmation.round_number != message.round_number:
                raise WrongRound(f"a confirmation of round {confirmation.round_number}")
            if confirmation.sender not in self.held or confirmation.sender == self.place:
                raise UnknownSender(f"a confirmation by place {confirmation.sender}")
            if confirmation.sender in signed_by:
                raise DuplicateSender(f"two confirmations by place {confirmation.sender}")
            key = self.channel_keys[confirmation.sender]
            check_confirmation(
                roster, self.rules, self.binding, key, confirmation, message.survivors
            )
            signed_by.add(confirmation.sender)
        signed_by.add(self.place)
        if len(signed_by) < self.rules.share_threshold:
            raise ThresholdMissed(
                f"{len(signed_by)} of {self.rules.share_threshold} clients confirmed the survivors"
            )

    def open_shares(
        self, alive: frozenset[int], dropped: frozenset[int]
    ) -> tuple[list[m.Share], list[m.Share]]:
        """Self-mask shares of survivors and mask-key shares of the dropped; then forgets all."""
        held = sorted(self.held.items())
        self_masks = [m.Share(place, seed) for place, (seed, _) in held if place in alive]
        mask_keys = [m.Share(place, key) for place, (_, key) in held if place in dropped]
        self.held.clear()
        self.channel_keys.clear()
        return self_masks, mask_keys
