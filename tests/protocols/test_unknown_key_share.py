"""A copied public key opens nothing, and costs its copier the round.

The attack: a corrupt hospital offers a copy of an honest hospital's mask key under its own name and
signature. While keys were derived from the two public keys alone, a victim used one stream with
both, and if its place lies between theirs it added for one what it subtracted for the other. Its
self mask is opened by the regular unmasking. `old_derivation` brings that derivation back, so that
each test has its control. (Unknown key shares: Blake-Wilson and Menezes, "Unknown key-share attacks
on the station-to-station protocol", PKC 1999.)

"Noise" is judged by exact agreement: two words of LENGTH agreeing by accident has a probability
below 1e-15.
"""

from itertools import product

import msgspec
import numpy as np
import pytest

from protocols import messages as m
from protocols import opening, participation
from protocols.attestations import OfferedKeys, advert_transcript, offered
from protocols.encapsulation import Encapsulation
from protocols.errors import DuplicateKey, NonCanonicalKey
from protocols.key_agreement import EphemeralKey, derive_key, self_mask_key
from protocols.mask_stream import Mask, Words, apply_masks
from protocols.parameters import JobRules
from protocols.sealing import End, box_key, seal
from protocols.server import SecureSumServer
from protocols.shamir import combine
from tests.protocols.rounds_driver import Federation, names, plain_sum, random_vectors

LENGTH = 40
KEYS = ("channel_key", "mask_key")
ALL_KEYS = (*KEYS, "kem_key")


def old_pair_key(own, place, peer, peer_place, rules):
    return derive_key(
        own.exchange(peer), rules.digest, "pairwise mask", *sorted((own.public, peer))
    )


def old_mask_key(pair, seed, rules, binding):
    """Without the seeds that pairs send each other, which name their ends as well."""
    return derive_key(pair, rules.digest, "mask stream", binding)


@pytest.fixture
def old_derivation(monkeypatch):
    for module in (participation, opening):
        monkeypatch.setattr(module, "pair_key", old_pair_key)
        monkeypatch.setattr(module, "mask_key", old_mask_key)


@pytest.fixture
def unchecked(monkeypatch):
    """Clients and a server that look for no copies: what is left is the derivation."""
    monkeypatch.setattr(OfferedKeys, "take", lambda *_: None)


def signed(job: Federation, name: str, reply: bytes, **keys: bytes) -> bytes:
    """A hospital's advert with other keys, signed by it as it should be."""
    advert = msgspec.structs.replace(msgspec.msgpack.decode(reply, type=m.Advert), **keys)
    signature = job.clients[name]._identity.sign(
        advert_transcript(advert.round_digest, name, *offered(advert))
    )
    return m.encode(msgspec.structs.replace(advert, signature=signature))


def advert_of(reply: bytes) -> m.Advert:
    return msgspec.msgpack.decode(reply, type=m.Advert)


class Copied:
    """A round in which one hospital offers a copy of another's mask key; `lost` never shares."""

    def __init__(self, count: int, copier: int, owner: int, lost: int | None = None) -> None:
        self.job = job = Federation(JobRules("job", LENGTH), names(count))
        self.vectors = random_vectors(job.members, LENGTH)
        self.server = job.server()
        replies = {n: job.clients[n].advertise(r) for n, r in self.ask("advertise").items()}
        public = advert_of(replies[job.members[owner]]).mask_key
        who = job.members[copier]
        replies[who] = signed(job, who, replies[who], mask_key=public)
        job.clients[who]._rounds[1].secrets.mask.public = public  # what it must pretend from now on
        if lost is not None:
            del replies[job.members[lost]]
        self.server.receive_advertise(replies)
        job.run(self.server, self.vectors, first="share")

    def ask(self, step: str) -> dict[str, bytes]:
        return getattr(self.server, f"request_{step}")()

    def bare(self, place: int) -> tuple[Words, Words]:
        """What one hospital sent, less its self mask as the server rebuilds it; and its vector."""
        name = self.job.members[place]
        (sent,) = (b for _, s, d, n, b in self.job.log if (s, d, n) == ("mask", "from", name))
        words = m.decode_masked(sent, LENGTH)[1].copy()
        rules = self.server.rules
        seed = combine(self.server._openings._shares[place], rules.share_threshold)
        apply_masks(words, [Mask(self_mask_key(seed, place, rules), subtract=True)])
        return words, self.vectors[name]


CASES = {
    # In place 1 the victim subtracts for place 0 and adds for place 2 and above.
    "three hospitals": {"count": 3, "copier": 2, "owner": 0},
    "the copier stands first": {"count": 3, "copier": 0, "owner": 2},
    "four hospitals, one lost before sharing": {"count": 4, "copier": 3, "owner": 0, "lost": 2},
}


@pytest.mark.usefixtures("old_derivation", "unchecked")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_without_names_in_the_derivation_a_copied_key_opens_the_victim(case):
    """The control: what is refused below was there to be had."""
    np.testing.assert_array_equal(*Copied(**case).bare(1))


@pytest.mark.usefixtures("old_derivation", "unchecked")
def test_without_names_a_copy_on_the_same_side_opens_the_lowest_bit_of_every_word():
    words, vector = Copied(3, copier=2, owner=1).bare(0)
    np.testing.assert_array_equal(words & 1, vector & 1)
    assert int((words == vector).sum()) < 2


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("seeds", [True, False], ids=["with seeds", "without"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_with_names_in_the_derivation_a_copied_key_opens_nothing_even_if_unnoticed(
    case, seeds, monkeypatch
):
    if not seeds:
        monkeypatch.setattr(participation, "mask_key", old_mask_key)
        monkeypatch.setattr(opening, "mask_key", old_mask_key)
    words, vector = Copied(**case).bare(1)
    assert int((words == vector).sum()) < 2


def test_two_recipients_with_one_channel_key_get_boxes_under_two_keys():
    """AES-GCM under one key and nonce gives out the difference of two plaintexts."""
    rules = Federation(JobRules("job", LENGTH), names(3)).server().rules
    own, theirs = EphemeralKey(bytes([1] * 32)), EphemeralKey(bytes([2] * 32)).public
    first, second = bytes(66), bytes(range(66))
    # Even if both encapsulations were the same as well.
    kem, fresh = bytes(1184), Encapsulation(bytes(32), bytes(1088))
    sent = []
    for to, text in ((1, first), (2, second)):
        key = box_key(own, fresh, End(0, own.public, kem), End(to, theirs, kem), rules)
        sent.append(seal(key, text, rules.digest, 0, to))
    seen = bytes(a ^ b for a, b in zip(*sent, strict=True))
    truth = bytes(a ^ b for a, b in zip(first, second, strict=True))
    assert seen[:66] != truth
    # The control: the context of before, the two keys alone.
    secret = own.exchange(theirs)
    key = derive_key(secret, rules.digest, "sealed shares", own.public, theirs)
    sent = [seal(key, text, rules.digest, 0, to) for to, text in ((1, first), (2, second))]
    assert bytes(a ^ b for a, b in zip(*sent, strict=True))[:66] == truth


# ---- who notices ---------------------------------------------------------------------------


def adverts(job: Federation, server: SecureSumServer) -> dict[str, bytes]:
    return {n: job.clients[n].advertise(r) for n, r in server.request_advertise().items()}


@pytest.mark.parametrize("owner", [0, 1], ids=["own", "anothers"])
@pytest.mark.parametrize(
    ("copied", "kind"), [*product(KEYS, KEYS), ("kem_key", "kem_key")], ids=" as ".join
)
def test_a_client_refuses_a_copied_key_by_name(owner, copied, kind):
    """Of either kind, its own key included, also one kind offered as the other."""
    job = Federation(JobRules("job", LENGTH), names(5))
    replies = adverts(job, job.server())
    copier, victim = job.members[3], job.members[0]
    key = getattr(advert_of(replies[job.members[owner]]), copied)
    replies[copier] = signed(job, copier, replies[copier], **{kind: key})
    seen = [advert_of(replies[n]) for n in job.members[1:]]
    with pytest.raises(DuplicateKey, match="clinic-0003 offers a public key"):
        job.clients[victim].share(m.encode(m.ShareRequest(1, seen)))


def test_one_key_for_both_purposes_is_refused():
    job = Federation(JobRules("job", LENGTH), names(5))
    replies = adverts(job, job.server())
    who = job.members[3]
    same = advert_of(replies[who]).mask_key
    replies[who] = signed(job, who, replies[who], channel_key=same)
    with pytest.raises(DuplicateKey, match="clinic-0003"):
        job.clients[job.members[0]].share(
            m.encode(m.ShareRequest(1, [advert_of(replies[n]) for n in job.members[1:]]))
        )


@pytest.mark.parametrize("kind", ALL_KEYS)
def test_the_server_drops_the_copier_and_nobody_else(kind):
    job = Federation(JobRules("job", LENGTH), names(5))
    vectors = random_vectors(job.members, LENGTH)
    server = job.server()
    replies = adverts(job, server)
    copier = job.members[0]  # first by name: what counts is who came later
    key = getattr(advert_of(replies[job.members[2]]), kind)
    late = signed(job, copier, replies.pop(copier), **{kind: key})
    server.receive_advertise({**replies, copier: late})
    assert list(server.dropped) == [copier]
    assert server.dropped[copier].startswith("DuplicateKey")
    total, survivors = job.run(server, vectors, first="share").result()
    assert survivors == tuple(job.members[1:])
    np.testing.assert_array_equal(total, plain_sum(vectors, survivors))


def base_point(_: bytes) -> bytes:
    return (2**255 - 19 + 9).to_bytes(32, "little")


SPELLINGS = {
    "topmost bit": (KEYS, lambda key: key[:31] + bytes([key[31] | 0x80])),  # X25519 ignores it
    "not reduced": (KEYS, base_point),
    "coefficients not reduced": (("kem_key",), lambda key: b"\xff" * len(key)),  # FIPS 203, 7.2
}
CASES_OF_SPELLING = [(kind, how) for kinds, how in SPELLINGS.values() for kind in kinds]


@pytest.mark.parametrize(("kind", "spelling"), CASES_OF_SPELLING)
def test_a_key_in_a_second_spelling_is_refused_by_clients_and_dropped_by_the_server(kind, spelling):
    job = Federation(JobRules("job", LENGTH), names(5))
    server = job.server()
    replies = adverts(job, server)
    copier = job.members[3]
    key = spelling(getattr(advert_of(replies[job.members[1]]), kind))
    replies[copier] = signed(job, copier, replies[copier], **{kind: key})
    seen = [advert_of(replies[n]) for n in job.members[1:]]
    with pytest.raises(NonCanonicalKey, match="clinic-0003") as caught:
        job.clients[job.members[0]].share(m.encode(m.ShareRequest(1, seen)))
    assert caught.value.accused == 3
    server.receive_advertise(replies)
    assert list(server.dropped) == [copier]
    assert server.dropped[copier].startswith("NonCanonicalKey")
