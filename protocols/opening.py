"""Rebuilding what is left of the masks from the survivors' shares.

For a survivor its self mask, for a client that dropped after sharing its pairwise masks with
the survivors. Every rebuilt secret is compared with what its owner signed (the commitment to
its self-mask seed, or its public key), so that a wrong share ends in BadShare and never in a
wrong sum.
"""

from collections.abc import Iterable, Mapping, Sequence

from protocols.attestations import commitment
from protocols.errors import BadShare
from protocols.key_agreement import EphemeralKey, mask_key, self_mask_key
from protocols.mask_stream import Mask
from protocols.messages import Advert
from protocols.parameters import RoundRules
from protocols.shamir import combine

Points = Sequence[tuple[int, bytes]]  # (place + 1, share)


def self_mask(rules: RoundRules, owner: Advert, shares: Points) -> Mask:
    """The mask that takes a survivor's self mask off the sum again.

    Raises:
        BadShare: if the shares do not recover the committed seed.
    """
    seed = combine(shares, rules.share_threshold)
    if commitment(rules, seed) != owner.self_mask_commitment:
        raise _wrong(rules, owner)
    return Mask(self_mask_key(seed, rules.digest), subtract=True)


def pairwise_masks(
    rules: RoundRules,
    owner: Advert,
    shares: Points,
    partners: Iterable[int],
    adverts: Mapping[int, Advert],
) -> list[Mask]:
    """The masks that survivors (`partners`) added for a client that dropped, with the sign to
    take them off the sum.

    Raises:
        BadShare: if the shares do not recover the private key of the advertised public key.
    """
    key = EphemeralKey(combine(shares, rules.share_threshold))
    if key.public != owner.mask_key:
        raise _wrong(rules, owner)
    masks = []
    for partner in sorted(partners):
        # The partner subtracted where its place is the later one; undo just that.
        stream = mask_key(key, adverts[partner].mask_key, rules.digest)
        masks.append(Mask(stream, subtract=partner < owner.sender))
    return masks


def _wrong(rules: RoundRules, owner: Advert) -> BadShare:
    return BadShare(
        f"the shares of {rules.cohort[owner.sender]} do not recover what it committed to",
        hint="a client sent a wrong share; run the round again without the last suspects",
    )
