"""Rebuilding what is left of the masks from the survivors' shares.

For a survivor its self mask, for a client that dropped after sharing its pairwise masks with the
survivors that masked with it. Every share is compared with the digest of what was dealt, and every
rebuilt secret with what its owner signed (the commitment to its self-mask seed, or its public key):
a wrong share costs who gave it the round and the others nothing, wrongly dealt shares end in
BadShare with the name of who dealt them, and a wrong sum never comes of either.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

from protocols.attestations import commitment, share_digest
from protocols.errors import BadShare, MalformedMessage, ThresholdMissed
from protocols.key_agreement import (
    exclusive_or,
    mask_key,
    mask_key_of,
    pair_key,
    pair_seed,
    seed_for,
    self_mask_key,
)
from protocols.mask_stream import Mask
from protocols.messages import Advert, Opening, Share
from protocols.parameters import RoundRules
from protocols.shamir import combine, is_element

KINDS = ("self mask", "mask key")
Digests = tuple[bytes, bytes]  # of the two kinds of share, in this order


class Openings:
    """The shares that survivors gave, and the masks that they let the server rebuild.

    Made when the survivors are settled. `given` says for each client that sent a vector whose boxes
    it had been given, with the digests of the two shares in each: the clients it masked with, and
    whose shares it holds. `blinded` has what it said of the seeds of each pair. `survivors` are the
    places whose vectors are in the sum.
    """

    def __init__(
        self,
        rules: RoundRules,
        binding: bytes,
        adverts: Mapping[int, Advert],
        given: Mapping[int, Mapping[int, Digests]],
        blinded: Mapping[int, Mapping[int, bytes]],
        survivors: frozenset[int],
    ) -> None:
        self._rules = rules
        self._binding = binding
        self._adverts = adverts
        self._given = given
        self._blinded = blinded
        self._survivors = survivors
        # Of those that dropped, only whoever a survivor masked with left a mask behind.
        needed = survivors.union(*(given[place] for place in survivors))
        self._shares: dict[int, list[tuple[int, bytes]]] = {place: [] for place in needed}

    def take(self, place: int, opening: Opening) -> None:
        """Keep the shares one client gave: one kind for each place whose shares it holds.

        Raises:
            MalformedMessage: if they are not exactly those it was asked for.
            BadShare: if one is not the share that its owner dealt; none is kept.
        """
        held = self._given[place].keys() | {place}
        asked = (sorted(held & self._survivors), sorted(held - self._survivors))
        given = ([s.place for s in opening.self_masks], [s.place for s in opening.mask_keys])
        if given != asked:
            raise MalformedMessage("not one share for each client that was asked for")
        for index, kind in enumerate(KINDS):
            for share in (opening.self_masks, opening.mask_keys)[index]:
                self._check(place, index, kind, share)
        for share in (*opening.self_masks, *opening.mask_keys):
            self._shares[share.place].append((place + 1, share.value))

    def _check(self, holder: int, index: int, kind: str, share: Share) -> None:
        """Return only if this is the share that was dealt.

        What a client keeps of its own secrets was dealt to nobody else: `_secret` does without it.
        """
        owner = share.place
        if owner == holder:
            dealt = is_element(share.value)
        else:
            found = share_digest(self._rules, kind, owner, holder, share.value)
            dealt = found == self._given[holder][owner][index]
        if not dealt:
            owner_name, name = self._rules.cohort[owner], self._rules.cohort[holder]
            raise BadShare(f"{name} gave another share of {owner_name} than it got", accused=holder)

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
            BadShare: if what somebody dealt does not recover what it committed to; `accused` is
                who dealt it.
        """
        masks = []
        for place in sorted(self._shares):
            unmask = self._self_mask if place in self._survivors else self._pairwise_masks
            masks += self._first_that_fits(place, unmask)
        return masks

    def _first_that_fits(
        self, place: int, unmask: Callable[[int, bytes], list[Mask]]
    ) -> list[Mask]:
        """The masks that the shares of one secret lead to.

        Every share but the owner's own is the one that was dealt, so any threshold of them recover
        the secret if it was dealt rightly, and otherwise the owner lied.
        """
        threshold = self._rules.share_threshold
        shares = sorted(self._shares[place])
        others = [share for share in shares if share[0] != place + 1]
        # The same holders for all secrets first: their coefficients are then computed once.
        for chosen in (shares, others):
            with suppress(BadShare):
                return unmask(place, combine(chosen, threshold))
        raise BadShare(
            f"the shares of {self._rules.cohort[place]} do not recover what it committed to",
            hint="it dealt wrong shares; run the round again without it",
            accused=place,
        )

    def _self_mask(self, place: int, seed: bytes) -> list[Mask]:
        if commitment(self._rules, place, seed) != self._adverts[place].self_mask_commitment:
            raise BadShare("another self-mask seed than was committed to")
        return [Mask(self_mask_key(seed, place, self._rules), subtract=True)]

    def _pairwise_masks(self, place: int, secret: bytes) -> list[Mask]:
        key = mask_key_of(secret, place, self._rules)
        if key.public != self._adverts[place].mask_key:
            raise BadShare("another mask key than was advertised")
        masks = []
        for partner in sorted(p for p in self._survivors if place in self._given[p]):
            # The partner subtracted where its place is the later one; undo just that.
            peer = self._adverts[partner].mask_key
            pair = pair_key(key, place, peer, partner, self._rules)
            own = seed_for(secret, place, partner, self._rules)
            # A partner that blinded another seed spoils the sum, as it can with its vector.
            theirs = exclusive_or(self._blinded[partner][place], own)
            seed = pair_seed(own, place, theirs, partner, self._rules)
            stream = mask_key(pair, seed, self._rules, self._binding)
            masks.append(Mask(stream, subtract=partner < place))
        return masks
