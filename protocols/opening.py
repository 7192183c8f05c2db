"""Rebuilding what is left of the masks from the survivors' shares.

For a survivor its self mask, for a client that dropped after sharing its pairwise masks with
the survivors. Every rebuilt secret is compared with what its owner signed (the commitment to
its self-mask seed, or its public key), so that a wrong share ends in BadShare and never in a
wrong sum.
"""

from collections.abc import Callable, Mapping

from protocols.attestations import commitment
from protocols.errors import BadShare, MalformedMessage, ThresholdMissed
from protocols.key_agreement import EphemeralKey, mask_key, pair_key, self_mask_key
from protocols.mask_stream import Mask
from protocols.messages import Advert, Opening
from protocols.parameters import RoundRules
from protocols.shamir import combine


class Openings:
    """The shares that survivors gave, and the masks that they let the server rebuild.

    Made when the survivors are settled: `shared` are the places that shared their secrets,
    `survivors` those of them whose vectors are in the sum.
    """

    def __init__(
        self,
        rules: RoundRules,
        binding: bytes,
        adverts: Mapping[int, Advert],
        neighbours: Callable[[int], frozenset[int]],
        shared: frozenset[int],
        survivors: frozenset[int],
    ) -> None:
        self._rules = rules
        self._binding = binding
        self._adverts = adverts
        self._neighbours = neighbours
        self._shared = shared
        self._survivors = survivors
        self._shares: dict[int, list[tuple[int, bytes]]] = {place: [] for place in shared}

    def take(self, place: int, opening: Opening) -> None:
        """Keep the shares one client gave: one kind for each place of its neighbourhood.

        Raises:
            MalformedMessage: if they are not exactly those it was asked for.
        """
        held = (self._neighbours(place) | {place}) & self._shared
        asked = (sorted(held & self._survivors), sorted(held - self._survivors))
        given = ([s.place for s in opening.self_masks], [s.place for s in opening.mask_keys])
        if given != asked:
            raise MalformedMessage("not one share for each client that was asked for")
        for share in (*opening.self_masks, *opening.mask_keys):
            self._shares[share.place].append((place + 1, share.value))

    def check_complete(self) -> None:
        """Return only if every secret that is needed can be rebuilt.

        Raises:
            ThresholdMissed: if there are too few shares of one.
        """
        needed = self._rules.share_threshold
        for place, shares in sorted(self._shares.items()):
            if len(shares) < needed:
                raise ThresholdMissed(
                    f"{len(shares)} shares of {self._rules.cohort[place]} arrived, where"
                    f" {needed} are needed"
                )

    def remaining_masks(self) -> list[Mask]:
        """What takes all masks off the sum of the survivors' masked vectors.

        Raises:
            BadShare: if the shares of somebody do not recover what it committed to.
        """
        masks = []
        for place in sorted(self._shared):
            secret = combine(self._shares[place], self._rules.share_threshold)
            if place in self._survivors:
                masks.append(self._self_mask(place, secret))
            else:
                masks += self._pairwise_masks(place, secret)
        return masks

    def _self_mask(self, place: int, seed: bytes) -> Mask:
        if commitment(self._rules, place, seed) != self._adverts[place].self_mask_commitment:
            raise _wrong(self._rules, place)
        return Mask(self_mask_key(seed, place, self._rules), subtract=True)

    def _pairwise_masks(self, place: int, secret: bytes) -> list[Mask]:
        key = EphemeralKey(secret)
        if key.public != self._adverts[place].mask_key:
            raise _wrong(self._rules, place)
        masks = []
        for partner in sorted(self._neighbours(place) & self._survivors):
            # The partner subtracted where its place is the later one; undo just that.
            peer = self._adverts[partner].mask_key
            pair = pair_key(key, place, peer, partner, self._rules)
            stream = mask_key(pair, self._rules, self._binding)
            masks.append(Mask(stream, subtract=partner < place))
        return masks


def _wrong(rules: RoundRules, place: int) -> BadShare:
    return BadShare(
        f"the shares of {rules.cohort[place]} do not recover what it committed to",
        hint="a client sent a wrong share; run the round again without the last suspects",
    )
