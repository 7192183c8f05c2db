"""What a server may try, and the named error with which every client refuses.

A refusal returns nothing, names no secret, and ends the round for that client: `refused` checks
all three.
"""

import gc
import struct
from typing import Any

import msgspec
import numpy as np
import pytest

from protocols import messages as m
from protocols.attestations import advert_transcript, offered
from protocols.client import SecureSumClient
from protocols.encapsulation import DecapsulationKey
from protocols.errors import (
    AliveAndDropped,
    BadCiphertext,
    BadShare,
    BadSignature,
    BadVector,
    CohortEquivocation,
    DuplicateSender,
    InvalidIdentity,
    InvalidRules,
    LowOrderPoint,
    MalformedMessage,
    OutOfOrder,
    OversizedMessage,
    ProtocolError,
    Replay,
    RulesMismatch,
    SecondUnmask,
    ThresholdMissed,
    ThresholdTooLow,
    UnknownSender,
    WrongRound,
    WrongStage,
)
from protocols.graph import SparseGraph
from protocols.identity import IdentityKey, Roster
from protocols.key_agreement import EphemeralKey
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from tests.protocols.rounds_driver import (
    STATEMENT,
    Federation,
    answer,
    names,
    random_vectors,
    requests_of,
)

LENGTH = 7
VECTORS = random_vectors(names(9), LENGTH)
KINDS = {
    "advertise": m.Announcement,
    "share": m.ShareRequest,
    "mask": m.MaskRequest,
    "confirm": m.ConfirmRequest,
    "unmask": m.UnmaskRequest,
}


class Scene:
    """Five clients, brought to just before one step; `victim` is the first of them."""

    def __init__(self, step: str, drop: dict[str, str] | None = None, **rules) -> None:
        self.job = Federation(JobRules("job", LENGTH, **rules), names(5))
        self.step = step
        self.victim = self.job.members[0]
        self.server = self.job.server()
        for earlier in KINDS:
            if earlier == step:
                break
            if earlier != "confirm" or self.job.rules.consistency:
                self.job.exchange(self.server, earlier, VECTORS, drop or {})
        self.requests = requests_of(self.server, step)

    @property
    def request(self) -> Any:  # a message of the step's kind
        return msgspec.msgpack.decode(self.requests[self.victim], type=KINDS[self.step])

    def ask(self, request: m.Message | bytes) -> bytes:
        data = request if isinstance(request, bytes) else m.encode(request)
        return answer(self.job.clients[self.victim], self.step, data, VECTORS[self.victim])

    def refused(
        self, error: type[ProtocolError], request: m.Message | bytes, match: str = "."
    ) -> ProtocolError:
        with pytest.raises(error, match=match) as caught:
            self.ask(request)
        assert type(caught.value) is error
        said = f"{caught.value} {caught.value.hint}"
        for secret in self.job.drawn[self.victim]:
            assert secret.hex()[:16] not in said
            assert repr(secret)[2:18] not in said
        return caught.value

    def over(self) -> None:
        """The victim has abandoned the round: not even the honest request is answered."""
        with pytest.raises(OutOfOrder):
            self.ask(self.requests[self.victim])


def replace(message, **changes):
    return msgspec.structs.replace(message, **changes)


def replace_first(scene: Scene, field: str, **changes):
    items = list(getattr(scene.request, field))
    items[0] = replace(items[0], **changes)
    return replace(scene.request, **{field: items})


# ---- keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["channel_key", "mask_key", "kem_key", "self_mask_commitment"])
def test_a_swapped_key_is_refused(key):
    scene = Scene("share")
    fresh = EphemeralKey(bytes(range(1, 33))).public
    if key == "kem_key":
        fresh = DecapsulationKey(bytes(64)).public
    scene.refused(BadSignature, replace_first(scene, "adverts", **{key: fresh}), "clinic-0001")
    scene.over()


def test_an_unsigned_key_is_refused():
    scene = Scene("share")
    scene.refused(BadSignature, replace_first(scene, "adverts", signature=bytes(64)))
    scene.over()


def test_a_key_signed_by_somebody_else_is_refused():
    scene = Scene("share")
    advert = scene.request.adverts[0]
    keys = offered(advert)
    forged = IdentityKey.generate().sign(
        advert_transcript(advert.round_digest, scene.job.members[1], *keys)
    )
    scene.refused(BadSignature, replace_first(scene, "adverts", signature=forged))


def test_one_clients_advert_does_not_pass_for_anothers():
    scene = Scene("share")
    adverts = scene.request.adverts
    moved = [replace(adverts[0], sender=adverts[1].sender), *adverts[1:]]
    scene.refused(BadSignature, replace(scene.request, adverts=moved))


@pytest.mark.parametrize("which", [0, 2])
def test_a_low_order_point_is_refused_by_clients_and_dropped_by_the_server(which):
    scene = Scene("share")
    name = scene.job.members[1]
    advert = scene.request.adverts[0]
    keys = list(offered(advert))
    keys[which] = bytes(32)
    signature = scene.job.clients[name]._identity.sign(
        advert_transcript(advert.round_digest, name, *keys)
    )
    channel, kem, mask, commitment = keys
    bad = m.Advert(advert.sender, 1, advert.round_digest, channel, kem, mask, commitment, signature)
    scene.refused(LowOrderPoint, replace(scene.request, adverts=[bad, *scene.request.adverts[1:]]))
    scene.over()
    honest = SecureSumServer(scene.job.roster, scene.job.rules, 1, scene.job.members)
    replies = {scene.job.members[a.sender]: m.encode(a) for a in scene.request.adverts[1:]}
    own = [b for _, s, d, n, b in scene.job.log if (s, d, n) == ("advertise", "from", scene.victim)]
    honest.receive_advertise({**replies, scene.victim: own[0], name: m.encode(bad)})
    assert list(honest.dropped) == [name]
    assert honest.dropped[name].startswith("LowOrderPoint")


# ---- rounds, order and replays --------------------------------------------------------------


@pytest.mark.parametrize("step", ["share", "mask", "confirm", "unmask"])
def test_a_request_for_a_round_that_never_began_is_refused(step):
    scene = Scene(step)
    scene.refused(WrongRound, replace(scene.request, round_number=2))
    scene.ask(scene.request)  # the true round is untouched


def test_keys_of_another_round_are_refused():
    scene = Scene("share")
    scene.refused(WrongRound, replace_first(scene, "adverts", round_number=2))
    scene.over()


def test_a_round_is_never_announced_twice_nor_an_older_one_later():
    scene = Scene("advertise")
    scene.ask(scene.request)
    scene.refused(Replay, scene.request, "round 1 was announced after round 1")
    scene.refused(Replay, replace(scene.request, round_number=0))


def test_a_restarted_client_does_not_go_back():
    job = Federation(JobRules("job", LENGTH), names(3))
    name = job.members[0]
    key = job.clients[name]._identity
    resumed = SecureSumClient(name, key, job.roster, job.rules, first_round=4)
    with pytest.raises(Replay):
        resumed.advertise(job.server(3).request_advertise()[name])
    resumed.advertise(job.server(4).request_advertise()[name])


def test_rounds_beyond_the_agreed_number_are_refused():
    scene = Scene("advertise", max_rounds=3)
    scene.refused(WrongRound, replace(scene.request, round_number=4), "not within 1 and 3")


@pytest.mark.parametrize("step", ["share", "mask", "confirm"])
def test_no_step_is_answered_twice(step):
    scene = Scene(step)
    scene.ask(scene.request)
    scene.refused(WrongStage, scene.request)


def test_a_second_unmask_request_is_refused_whatever_it_asks():
    scene = Scene("unmask", drop={"clinic-0004": "mask"})
    scene.ask(scene.request)
    scene.refused(SecondUnmask, scene.request)
    everybody = m.bit_set(range(5), 5)
    scene.refused(SecondUnmask, replace(scene.request, survivors=everybody, dropped=b"\0"))


@pytest.mark.parametrize(
    ("before", "asked"),
    [("share", "mask"), ("mask", "confirm"), ("mask", "unmask"), ("confirm", "unmask")],
)
def test_no_step_is_skipped(before, asked):
    scene, later = Scene(before), Scene(asked)
    scene.step = asked
    scene.refused(WrongStage, later.request)


def test_messages_of_a_finished_round_are_refused_in_the_next():
    scene = Scene("unmask")
    old = scene.request
    scene.ask(old)
    scene.job.clients[scene.victim].advertise(scene.job.server(2).request_advertise()[scene.victim])
    scene.job.clients[scene.victim].advertise(scene.job.server(3).request_advertise()[scene.victim])
    scene.refused(Replay, old)


# ---- rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["share_threshold", "minimum_survivors"])
def test_a_lowered_threshold_is_refused(field):
    scene = Scene("advertise")
    scene.refused(ThresholdTooLow, replace(scene.request, **{field: 3}), "announced .* 3, .* say 4")
    scene.refused(ThresholdTooLow, replace(scene.request, **{field: 0}))


@pytest.mark.parametrize(
    "change",
    [{"vector_length": 8}, {"degree": 3}, {"share_threshold": 5}, {"version": 1}, {"job": "other"}],
)
def test_an_announcement_that_differs_from_the_agreed_rules_is_refused(change):
    scene = Scene("advertise")
    scene.refused(RulesMismatch, replace(scene.request, **change))


def test_a_server_that_shows_two_lengths_opens_nothing():
    """Of a job's lengths the server chooses; every key of a round is bound to the one it chose."""
    job = Federation(JobRules("job", LENGTH, other_lengths=(8,)), names(5))
    short = SecureSumServer(job.roster, job.rules, 1, job.members, vector_length=8)
    server = job.server()
    adverts = {
        name: job.clients[name].advertise(each.request_advertise()[name])
        for each, name in zip([short, *[server] * 4], job.members, strict=True)
    }
    decoded = {n: msgspec.msgpack.decode(each, type=m.Advert) for n, each in adverts.items()}
    request = m.encode(m.ShareRequest(1, [decoded[n] for n in job.members[:4]]))
    with pytest.raises(CohortEquivocation):
        job.clients[job.members[4]].share(request)


@pytest.mark.parametrize("cohort", [[0], [0, 1]])
def test_a_cohort_too_small_to_hide_anybody_is_refused(cohort):
    scene = Scene("advertise")
    scene.refused(InvalidRules, replace(scene.request, cohort=m.bit_set(cohort, 5)))


def test_a_cohort_below_the_agreed_minimum_is_refused():
    scene = Scene("advertise", minimum_cohort=5)
    scene.refused(ThresholdTooLow, replace(scene.request, cohort=m.bit_set(range(4), 5)), "of 4")
    scene.ask(scene.request)


def test_two_clients_need_their_explicit_permission():
    members = names(2)
    job = Federation(JobRules("job", LENGTH, allow_two_party=True), members)
    job.run(job.server(), VECTORS).result()
    with pytest.raises(InvalidRules, match="two clients"):
        Federation(JobRules("job", LENGTH), members).server()


def test_a_client_outside_the_announced_cohort_does_not_answer():
    scene = Scene("advertise")
    scene.refused(UnknownSender, replace(scene.request, cohort=m.bit_set([1, 2, 3], 5)))


@pytest.mark.parametrize("cohort", [b"\xff", b"\x1f\x00", b""])
def test_a_cohort_set_that_does_not_fit_the_roster_is_refused(cohort):
    scene = Scene("advertise")
    scene.refused(MalformedMessage, replace(scene.request, cohort=cohort))


# ---- equivocation -----------------------------------------------------------------------------


def test_different_cohorts_for_different_clients_are_noticed():
    job = Federation(JobRules("job", LENGTH), names(6))
    whole, part = job.server(), job.server(cohort=job.members[:5])
    shown = {name: (part if name == job.members[0] else whole) for name in job.members[:5]}
    adverts = {}
    for name, server in shown.items():
        adverts[name] = job.clients[name].advertise(server.request_advertise()[name])
    signed = [
        msgspec.msgpack.decode(a, type=m.Advert) for n, a in adverts.items() if n != job.members[0]
    ]
    with pytest.raises(CohortEquivocation, match="clinic-0001 signed keys for another cohort"):
        job.clients[job.members[0]].share(m.encode(m.ShareRequest(1, signed)))


def test_different_survivors_for_different_clients_are_noticed():
    scene = Scene("confirm", drop={})
    everybody, fewer = m.bit_set(range(5), 5), m.bit_set(range(4), 5)
    job = scene.job
    confirmations = []
    for name in job.members[:4]:
        shown = everybody if name == scene.victim else fewer
        reply = job.clients[name].confirm(m.encode(m.ConfirmRequest(1, shown)))
        confirmations.append(msgspec.msgpack.decode(reply, type=m.Confirmation))
    scene.step = "unmask"
    lie = m.UnmaskRequest(1, everybody, b"\0", confirmations[1:], None)
    scene.refused(CohortEquivocation, lie, "did not sign these survivors")
    scene.refused(Replay, replace(lie, survivors=fewer, dropped=m.bit_set([4], 5)))


def test_survivors_may_not_change_after_they_were_confirmed():
    scene = Scene("unmask")
    fewer = replace(scene.request, survivors=m.bit_set(range(4), 5), dropped=m.bit_set([4], 5))
    scene.refused(CohortEquivocation, fewer, "not those that were confirmed")
    scene.over()


@pytest.mark.parametrize("step", ["confirm", "unmask"])
def test_a_client_asked_although_not_a_survivor_refuses(step):
    scene = Scene(step)
    scene.refused(CohortEquivocation, replace(scene.request, survivors=m.bit_set(range(1, 5), 5)))
    scene.over()


def test_a_client_whose_shares_never_arrived_is_no_survivor():
    scene = Scene("unmask", drop={"clinic-0004": "share"}, server="curious")
    lie = replace(scene.request, survivors=m.bit_set(range(5), 5))
    scene.refused(CohortEquivocation, lie, "place 4")
    scene.over()


def test_nothing_is_given_of_a_client_whose_shares_never_arrived():
    scene = Scene("unmask", drop={"clinic-0004": "share"}, server="curious")
    reply = scene.ask(replace(scene.request, dropped=m.bit_set([4], 5)))
    opening = msgspec.msgpack.decode(reply, type=m.Opening)
    assert not opening.mask_keys
    assert [share.place for share in opening.self_masks] == [0, 1, 2, 3]


@pytest.mark.parametrize("server", ["malicious", "curious"])
@pytest.mark.parametrize("who", [0, 3])
def test_nobody_is_both_alive_and_dropped(server, who):
    scene = Scene("unmask", server=server)
    lie = replace(scene.request, dropped=m.bit_set([who], 5))
    scene.refused(AliveAndDropped, lie, f"place {who}")
    scene.over()


@pytest.mark.parametrize("step", ["confirm", "unmask"])
def test_too_few_survivors_are_refused_by_the_client_itself(step):
    scene = Scene(step)
    scene.refused(ThresholdMissed, replace(scene.request, survivors=m.bit_set(range(3), 5)))
    scene.over()


def test_a_full_neighbourhood_does_not_stand_for_a_full_cohort():
    sparse = SparseGraph(0.02, 0.05, privacy_bits=20, abort_bits=15)
    job = Federation(JobRules("job", LENGTH, sparse=sparse), names(80))
    vectors = random_vectors(job.members, LENGTH)
    server = job.run(job.server(), vectors, last="mask")
    near = m.bit_set({0, *server.rules.neighbours(0)}, 80)
    with pytest.raises(ThresholdMissed, match="where at least 54 are needed"):
        job.clients[job.members[0]].confirm(m.encode(m.ConfirmRequest(1, near)))


def test_a_full_cohort_does_not_stand_for_a_full_neighbourhood():
    sparse = SparseGraph(0.02, 0.05, privacy_bits=20, abort_bits=15)
    job = Federation(JobRules("job", LENGTH, sparse=sparse), names(80))
    vectors = random_vectors(job.members, LENGTH)
    rules = job.run(server := job.server(), vectors, last="mask").rules
    near = sorted(server.rules.neighbours(0))
    gone = near[: rules.degree + 2 - rules.share_threshold]
    alive = m.bit_set(set(range(80)) - set(gone), 80)
    assert 80 - len(gone) >= rules.minimum_survivors
    with pytest.raises(ThresholdMissed, match="too few neighbours"):
        job.clients[job.members[0]].confirm(m.encode(m.ConfirmRequest(1, alive)))


def test_unmasking_needs_threshold_many_confirmations():
    scene = Scene("unmask")
    few = replace(scene.request, confirmations=scene.request.confirmations[:2])
    scene.refused(ThresholdMissed, few, "3 of 4 clients confirmed")
    scene.over()


def test_confirmations_count_once_each_and_only_from_the_neighbourhood():
    twice = Scene("unmask")
    first = twice.request.confirmations[0]
    twice.refused(DuplicateSender, replace(twice.request, confirmations=[first] * 4))
    unknown = Scene("unmask")
    unknown.refused(UnknownSender, replace_first(unknown, "confirmations", sender=9))
    stale = Scene("unmask")
    stale.refused(WrongRound, replace_first(stale, "confirmations", round_number=2))
    forged = Scene("unmask")
    forged.refused(CohortEquivocation, replace_first(forged, "confirmations", signature=bytes(64)))


def test_signatures_and_adverts_of_another_job_of_the_same_name_are_of_no_use():
    """Same name, roster, round, cohort and question: only the hospitals' fresh keys differ."""
    other, scene = Scene("unmask"), Scene("unmask")
    assert other.server.rules.digest == scene.server.rules.digest
    lie = replace(scene.request, confirmations=other.request.confirmations)
    scene.refused(CohortEquivocation, lie, "did not sign these survivors")
    other, scene = Scene("share"), Scene("share")
    scene.ask(replace(scene.request, adverts=other.request.adverts))  # signed by the right keys
    scene.step = "mask"
    scene.refused(BadCiphertext, Scene("mask").request, "place 1")


# ---- shares --------------------------------------------------------------------------------


def test_an_altered_sealed_share_is_refused_at_every_byte_and_whoever_sealed_it_named():
    scene = Scene("mask")
    box = scene.request.boxes[0]
    for field, step in (("sealed", 9), ("encapsulation", 99)):
        for position in range(0, len(getattr(box, field)), step):
            altered = bytearray(getattr(box, field))
            altered[position] ^= 1
            lie = replace_first(scene, "boxes", **{field: bytes(altered)})
            assert scene.refused(BadCiphertext, lie, "place 1").accused == 1
    scene.ask(scene.request)  # nobody pays for another's box


@pytest.mark.parametrize("field", ["self_mask_digest", "mask_key_digest"])
def test_a_box_that_holds_other_shares_than_its_digests_say_is_refused(field):
    scene = Scene("mask")
    lie = replace_first(scene, "boxes", **{field: bytes(32)})
    assert scene.refused(BadShare, lie, "other shares than it says").accused == 1
    scene.ask(scene.request)


def test_a_mask_request_is_checked_whole_before_anything_is_computed():
    """The announcement that rides on it too; a request that was checked is then answered."""
    scene = Scene("mask")
    client = scene.job.clients[scene.victim]
    ahead = m.announcement(scene.job.server(2).rules, scene.job.roster.names)
    low = replace(ahead, share_threshold=2)
    with pytest.raises(ThresholdTooLow):
        client.check_mask(m.encode(replace(scene.request, upcoming=low)))
    with pytest.raises(Replay):
        client.check_mask(m.encode(replace(scene.request, upcoming=replace(ahead, round_number=1))))
    few = replace(scene.request, boxes=scene.request.boxes[:2])
    with pytest.raises(ThresholdMissed):
        client.check_mask(m.encode(few))
    good = m.encode(replace(scene.request, upcoming=ahead))
    for _ in range(2):
        client.check_mask(good)
    scene.ask(good)
    with pytest.raises(WrongStage):
        client.check_mask(good)


def test_a_sealed_share_of_another_round_does_not_open():
    job = Federation(JobRules("job", LENGTH), names(5))
    first = job.run(job.server(1), VECTORS, last="share").request_mask(STATEMENT)
    second = job.run(job.server(2), VECTORS, last="share").request_mask(STATEMENT)
    name = job.members[0]
    old = msgspec.msgpack.decode(first[name], type=m.MaskRequest)
    new = msgspec.msgpack.decode(second[name], type=m.MaskRequest)
    mixed = replace(new, boxes=[old.boxes[0], *new.boxes[1:]])
    with pytest.raises(BadCiphertext):
        job.clients[name].mask(m.encode(mixed), VECTORS[name], STATEMENT)


def test_sealed_shares_do_not_open_in_anothers_place():
    scene = Scene("mask")
    boxes = scene.request.boxes
    swapped = [replace(boxes[1], place=boxes[0].place), *boxes[1:]]
    scene.refused(BadCiphertext, replace(scene.request, boxes=swapped))
    other = Scene("mask")
    meant_for_another = other.requests[other.job.members[1]]
    theirs = msgspec.msgpack.decode(meant_for_another, type=m.MaskRequest).boxes
    box = next(b for b in theirs if b.place == 2)
    mixed = [box if b.place == 2 else b for b in other.request.boxes]
    other.refused(BadCiphertext, replace(other.request, boxes=mixed))


@pytest.mark.parametrize(("step", "field"), [("share", "adverts"), ("mask", "boxes")])
def test_a_sender_named_twice_is_refused(step, field):
    scene = Scene(step)
    items = getattr(scene.request, field)
    scene.refused(DuplicateSender, replace(scene.request, **{field: [*items, items[0]]}))


def test_senders_outside_the_cohort_are_refused():
    scene = Scene("share")
    scene.refused(UnknownSender, replace_first(scene, "adverts", sender=5))
    scene = Scene("mask")
    scene.refused(UnknownSender, replace_first(scene, "boxes", place=5))
    scene = Scene("mask", drop={"clinic-0004": "advertise"})
    box = replace(scene.request.boxes[0], place=4)
    scene.refused(UnknownSender, replace(scene.request, boxes=[*scene.request.boxes, box]))


def test_a_strangers_keys_are_refused_in_a_sparse_graph():
    sparse = SparseGraph(0.02, 0.05, privacy_bits=20, abort_bits=15)
    job = Federation(JobRules("job", LENGTH, sparse=sparse), names(80))
    server = job.run(job.server(), VECTORS, last="advertise")
    name = job.members[0]
    request = msgspec.msgpack.decode(server.request_share()[name], type=m.ShareRequest)
    near = {advert.sender for advert in request.adverts}
    far = next(server._adverts[p] for p in range(1, 80) if p not in near)
    with pytest.raises(UnknownSender, match="not a neighbour"):
        job.clients[name].share(m.encode(replace(request, adverts=[*request.adverts, far])))


@pytest.mark.parametrize(("step", "field"), [("share", "adverts"), ("mask", "boxes")])
def test_too_few_neighbours_are_refused(step, field):
    scene = Scene(step)
    few = getattr(scene.request, field)[:2]
    scene.refused(ThresholdMissed, replace(scene.request, **{field: few}), "3 of 4")


# ---- bytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", KINDS)
def test_truncated_messages_are_refused_and_change_nothing(step):
    scene = Scene(step)
    whole = scene.requests[scene.victim]
    for length in {*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1}:
        scene.refused(MalformedMessage, whole[:length])
    scene.ask(whole)


@pytest.mark.parametrize("step", KINDS)
def test_oversized_messages_are_refused_before_they_are_parsed(step):
    scene = Scene(step)
    whole = scene.requests[scene.victim]
    scene.refused(OversizedMessage, whole + bytes(20_000), "where at most")
    scene.refused(MalformedMessage, whole + b"\0")


@pytest.mark.parametrize("step", KINDS)
def test_requests_of_another_kind_are_refused(step):
    scene = Scene(step)
    for other in KINDS:
        if other != step:
            with pytest.raises(MalformedMessage):  # or too long for its own kind
                scene.ask(Scene(other).requests[scene.victim])


def test_only_the_canonical_encoding_is_accepted():
    scene = Scene("confirm")
    canonical = scene.requests[scene.victim]
    assert canonical == b"\x93\xabask confirm\x01\xc4\x01\x1f"
    longer_forms = [
        b"\xdc\x00\x03\xabask confirm\x01\xc4\x01\x1f",  # array 16
        b"\x93\xd9\x0bask confirm\x01\xc4\x01\x1f",  # str 8
        b"\x93\xabask confirm\xcc\x01\xc4\x01\x1f",  # uint 8
        b"\x93\xabask confirm\x01\xc5\x00\x01\x1f",  # bin 16
    ]
    for data in longer_forms:
        scene.refused(MalformedMessage, data, "canonical")


def test_a_list_that_announces_four_billion_entries_costs_no_memory():
    scene = Scene("share")
    bomb = b"\x93\xa9ask share\x01\xdd" + struct.pack(">I", 2**32 - 1)
    scene.refused(MalformedMessage, bomb)


# ---- the client's own side --------------------------------------------------------------------


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(LENGTH - 1, np.uint32),
        np.zeros(LENGTH + 1, np.uint32),
        np.zeros((1, LENGTH), np.uint32),
        np.zeros(LENGTH, np.int64),
        np.zeros(LENGTH, np.float32),
    ],
)
def test_a_vector_of_another_length_or_type_is_refused_and_the_round_goes_on(vector):
    scene = Scene("mask")
    with pytest.raises(BadVector, match="words of uint32"):
        scene.job.clients[scene.victim].mask(scene.requests[scene.victim], vector, STATEMENT)
    scene.ask(scene.request)


def test_a_client_whose_key_is_not_pinned_does_not_start():
    key = IdentityKey.generate()
    roster = Roster({"a": key.public, "b": IdentityKey.generate().public})
    for name in ("b", "c"):
        with pytest.raises(InvalidIdentity, match="does not pin"):
            SecureSumClient(name, key, roster, JobRules("job", 1))


def test_secrets_stay_out_of_every_representation():
    scene = Scene("unmask")
    client = scene.job.clients[scene.victim]
    shown = repr(client) + "".join(repr(state) for state in client._rounds.values())
    for secret in scene.job.drawn[scene.victim]:
        assert secret.hex()[:16] not in shown
        assert repr(secret)[2:20] not in shown


def test_masks_and_shares_are_forgotten_once_used():
    scene = Scene("unmask")
    state = scene.job.clients[scene.victim]._rounds[1]
    for dropped in (state.pair_keys, state.own_seeds, state.their_seeds):
        assert not dropped
    assert not any(vars(state.secrets).values())
    scene.ask(scene.request)
    assert not state.held
    kept = gc_reachable(scene.job.clients[scene.victim])
    assert not kept.intersection(d for d in scene.job.drawn[scene.victim] if len(d) in (32, 64))


def test_the_mask_key_is_forgotten_once_it_is_shared_and_the_channel_key_once_it_is_used():
    scene = Scene("mask")
    secrets = scene.job.clients[scene.victim]._rounds[1].secrets
    with pytest.raises(WrongStage, match="dropped after its last use"):
        _ = secrets.mask
    with pytest.raises(WrongStage, match="dropped after its last use"):
        _ = secrets.mask_secret
    assert secrets.channel
    scene.ask(scene.request)
    for name in ("channel", "kem", "self_mask_seed"):
        with pytest.raises(WrongStage, match="dropped after its last use"):
            getattr(secrets, name)


def gc_reachable(client: SecureSumClient) -> set[bytes]:
    """Every byte string that can be reached from a client's rounds."""
    found, seen = set[bytes](), set[int]()
    left: list[object] = list(client._rounds.values())
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, type):
            continue
        seen.add(id(each))
        if isinstance(each, bytes):
            found.add(each)
        else:
            left += gc.get_referents(each)
    return found
