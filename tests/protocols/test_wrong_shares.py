"""Wrong shares and sealed garbage: the liar is named, the round saved, and nobody else pays.

Three lies: a holder gives out another share than it got; an owner deals shares of nothing; an owner
seals garbage. Each costs the liar a round, and the others at most the same round.
"""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from protocols import messages as m
from protocols.complaints import Complaints
from protocols.encapsulation import public_key
from protocols.errors import BadCiphertext, BadShare, ThresholdMissed
from protocols.parameters import JobRules
from protocols.server import SecureSumServer
from protocols.shamir import PRIME
from tests.protocols.rounds_driver import STATEMENT, Federation, names, plain_sum, random_vectors

LENGTH = 9
MEMBERS = names(9)
VECTORS = random_vectors(MEMBERS, LENGTH)
LIAR = MEMBERS[0]


def federation(count: int) -> Federation:
    return Federation(JobRules("job", LENGTH), MEMBERS[:count])


def server_of(job: Federation, number: int, complaints: Complaints) -> SecureSumServer:
    return SecureSumServer(job.roster, job.rules, number, job.members, complaints=complaints)


# ---- a holder gives out another share than it got ----------------------------------------------

WRONG: dict[str, Callable[[bytes], bytes]] = {
    "one wrong bit": lambda share: share[:-1] + bytes([share[-1] ^ 1]),
    "outside the field": lambda _: PRIME.to_bytes(33, "big"),
    "the largest": lambda _: b"\xff" * 33,
    "zero": lambda _: bytes(33),
}


def openings(
    job: Federation, server: SecureSumServer, change: Callable[[bytes], bytes], field: str, of: int
) -> dict[str, bytes]:
    """Everybody's shares, with one of the liar's changed: that of the client in place `of`."""
    replies = {n: job.clients[n].unmask(r) for n, r in server.request_unmask().items()}
    opening = msgspec.msgpack.decode(replies[LIAR], type=m.Opening)
    changed = [
        m.Share(s.place, change(s.value)) if s.place == of else s for s in getattr(opening, field)
    ]
    replies[LIAR] = m.encode(msgspec.structs.replace(opening, **{field: changed}))
    return replies


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("lost", [None, 4], ids=["self mask", "mask key"])
def test_a_wrong_share_names_the_liar_and_the_others_open_the_sum(change, lost):
    job = federation(7)  # threshold 5
    complaints = Complaints()
    drop = {} if lost is None else {MEMBERS[lost]: "mask"}
    server = job.run(server_of(job, 1, complaints), VECTORS, drop, last="confirm")
    field, of = ("self_masks", 3) if lost is None else ("mask_keys", lost)
    server.receive_unmask(openings(job, server, change, field, of))
    total, survivors = server.result()
    np.testing.assert_array_equal(total, plain_sum(VECTORS, survivors))
    assert LIAR in survivors  # its vector is in the sum; its shares were not needed
    assert server.dropped[LIAR].startswith("BadShare: clinic-0000 gave another share of")
    assert list(complaints.out) == [LIAR]
    # The next round does without it.
    following = server_of(job, 2, complaints)
    assert LIAR not in following.request_advertise()
    total, survivors = job.run(following, VECTORS).result()
    assert survivors == tuple(MEMBERS[1:7])


def test_an_own_share_that_is_wrong_is_done_without():
    job = federation(4)
    server = job.run(job.server(), VECTORS, last="confirm")
    server.receive_unmask(openings(job, server, WRONG["one wrong bit"], "self_masks", of=0))
    total, survivors = server.result()
    np.testing.assert_array_equal(total, plain_sum(VECTORS, survivors))


def test_too_many_wrong_shares_end_the_round_by_name_and_reveal_nothing():
    job = federation(4)  # threshold 3
    server = job.run(job.server(), VECTORS, {MEMBERS[3]: "confirm"}, last="confirm")
    with pytest.raises(ThresholdMissed) as caught:
        server.receive_unmask(openings(job, server, WRONG["zero"], "self_masks", of=1))
    with pytest.raises(ThresholdMissed):
        server.result()
    assert server.dropped[LIAR].startswith("BadShare")
    assert "2 of 4" in str(caught.value)


# ---- an owner deals shares of nothing -----------------------------------------------------------


def dealing(change: Callable[[bytes], bytes], job: Federation, only: int | None = None) -> None:
    """Make the liar deal changed shares of its self-mask seed, with digests that fit."""
    client = job.clients[LIAR]
    honest = client.share

    def share(request: bytes) -> bytes:
        state = client._rounds[1]
        reply = msgspec.msgpack.decode(honest(request), type=m.Shares)
        # An honest client lets go of them when it has shared.
        adverts = msgspec.msgpack.decode(request, type=m.ShareRequest).adverts
        state.kem_keys = {each.sender: public_key(each.kem_key) for each in adverts}
        boxes = []
        for box in reply.boxes:
            if only is not None and box.place != only:
                boxes.append(box)
                continue
            # The real shares are not needed: what is dealt is made up.
            made_up = (change(bytes(33)), bytes(33))
            boxes.append(state._seal(box.place, made_up, state.own_seeds[box.place]))
        return m.encode(msgspec.structs.replace(reply, boxes=boxes))

    client.share = share  # type: ignore[method-assign]  # the liar's own


def test_shares_of_nothing_end_the_round_and_name_who_dealt_them_not_who_held_them():
    job = federation(5)
    complaints = Complaints()
    dealing(lambda share: share[:-1] + b"\x07", job)
    server = job.run(server_of(job, 1, complaints), VECTORS)
    for _ in range(2):
        with pytest.raises(BadShare, match="shares of clinic-0000 do not recover") as caught:
            server.result()
    assert caught.value.accused == 0
    assert list(complaints.out) == [LIAR]
    total, survivors = job.run(server_of(job, 2, complaints), VECTORS).result()
    assert survivors == tuple(MEMBERS[1:5])
    np.testing.assert_array_equal(total, plain_sum(VECTORS, survivors))


def test_a_dealt_share_outside_the_field_is_refused_before_anything_is_computed():
    job = federation(5)
    dealing(lambda _: PRIME.to_bytes(33, "big"), job)
    server = job.run(job.server(), VECTORS, last="share")
    request = server.request_mask(STATEMENT)[MEMBERS[1]]
    with pytest.raises(BadShare, match="place 0 is not a field element") as caught:
        job.clients[MEMBERS[1]].check_mask(request)
    assert caught.value.accused == 0


# ---- an owner seals garbage ---------------------------------------------------------------------


def garbage_for(*places: int) -> Callable[[bytes], bytes]:
    def change(reply: bytes) -> bytes:
        shares = msgspec.msgpack.decode(reply, type=m.Shares)
        boxes = [
            msgspec.structs.replace(box, sealed=bytes(m.BOX_BYTES)) if box.place in places else box
            for box in shares.boxes
        ]
        return m.encode(msgspec.structs.replace(shares, boxes=boxes))

    return change


def as_far_as_masks(
    job: Federation, server: SecureSumServer, *places: int
) -> tuple[dict[str, bytes], list[tuple[str, int | None]]]:
    """The vectors of those whose boxes all open, and the complaints of the others."""
    job.run(server, VECTORS, last="advertise")
    shares = {n: job.clients[n].share(r) for n, r in server.request_share().items()}
    if LIAR in shares:
        shares[LIAR] = garbage_for(*places)(shares[LIAR])
    server.receive_share(shares)
    return answers(job, server.request_mask(STATEMENT))


def answers(job, requests) -> tuple[dict[str, bytes], list[tuple[str, int | None]]]:
    replies: dict[str, bytes] = {}
    complaints: list[tuple[str, int | None]] = []
    for name, request in requests.items():
        try:
            job.clients[name].check_mask(request)
        except BadCiphertext as error:
            complaints.append((name, error.accused))
            continue
        replies[name] = job.clients[name].mask(request, VECTORS[name], STATEMENT)
    return replies, complaints


def finish(job: Federation, server: SecureSumServer, replies, complaints) -> tuple[str, ...]:
    for name, accused in complaints:
        server.complain(name, accused)
    again, more = answers(job, server.request_mask_again())
    assert not more
    server.receive_mask(replies | again)
    total, survivors = job.run(server, VECTORS, first="confirm").result()
    np.testing.assert_array_equal(total, plain_sum(VECTORS, survivors))
    return survivors


def test_garbage_for_all_costs_the_one_who_sealed_it_the_round_and_nobody_else():
    job = federation(5)
    server = job.server()
    replies, complaints = as_far_as_masks(job, server, 1, 2, 3, 4)
    assert complaints == [(name, 0) for name in MEMBERS[1:5]]
    assert finish(job, server, replies, complaints) == tuple(MEMBERS[1:5])
    assert server.dropped == {LIAR: "accused by clinic-0001 and clinic-0002"}


def test_garbage_for_two_leaves_the_masks_of_the_others_with_the_liar_to_be_taken_off():
    """The rest masked with the liar before anybody complained: its mask key is rebuilt."""
    job = federation(7)  # threshold 5: five others hold the liar's shares, with its own
    server = job.server()
    replies, complaints = as_far_as_masks(job, server, 1, 2)
    with pytest.raises(ThresholdMissed, match="4 shares of clinic-0000"):
        # Four hold the liar's shares, and itself is gone: one too few. The round is lost.
        finish(job, server, replies, complaints)
    job = federation(9)  # threshold 7, seven vectors without the two that complain and the liar
    server = job.server()
    replies, complaints = as_far_as_masks(job, server, 1)
    assert finish(job, server, replies, complaints) == tuple(n for n in MEMBERS if n != MEMBERS[1])


def test_garbage_for_one_costs_it_one_round_and_both_every_round_from_the_second_on():
    job = federation(7)
    complaints = Complaints()
    server = server_of(job, 1, complaints)
    survivors = finish(job, server, *as_far_as_masks(job, server, 1))
    assert survivors == (LIAR, *MEMBERS[2:7])
    assert server.dropped[MEMBERS[1]] == "BadCiphertext: refused the box of clinic-0000"
    assert not complaints.out
    server = server_of(job, 2, complaints)
    assert finish(job, server, *as_far_as_masks(job, server, 1)) == tuple(MEMBERS[2:7])
    assert set(complaints.out) == {LIAR, MEMBERS[1]}
    # And against another than before: one liar's word does not count twice.
    server = server_of(job, 3, complaints)
    assert finish(job, server, *as_far_as_masks(job, server)) == tuple(MEMBERS[2:7])


def test_one_who_cries_wolf_drops_nobody_but_itself():
    job = federation(6)
    complaints = Complaints()
    server = server_of(job, 1, complaints)
    replies, _ = as_far_as_masks(job, server)
    wolf = MEMBERS[5]
    del replies[wolf]
    assert finish(job, server, replies, [(wolf, 0), (wolf, 1), (wolf, 2)]) == tuple(MEMBERS[:5])
    assert not complaints.out


@pytest.mark.parametrize(("name", "accused"), [("nobody", 0), (MEMBERS[1], 1), (MEMBERS[1], 77)])
def test_a_complaint_that_cannot_be_drops_whoever_makes_it(name, accused):
    job = federation(5)
    server = job.run(job.server(), VECTORS, last="share")
    server.request_mask(STATEMENT)
    server.complain(name, accused)
    assert list(server.dropped) == [name]
    assert server.dropped[name].startswith("UnknownSender")


def test_who_is_already_in_the_sum_stays_in_it():
    """Complaints come before vectors; after, the accused is dropped from the next round only."""
    job = federation(7)
    complaints = Complaints()
    server = server_of(job, 1, complaints)
    replies, said = as_far_as_masks(job, server, 1, 2)
    server.add_masked(LIAR, replies.pop(LIAR))
    survivors = finish(job, server, replies, said)
    assert LIAR in survivors
    assert set(server.dropped) == {MEMBERS[1], MEMBERS[2]}
    assert list(complaints.out) == [LIAR]


def test_rules_of_the_ledger_of_complaints():
    complaints = Complaints()
    complaints.hear("a", "x")
    assert not complaints.out
    complaints.hear("b", "x")
    assert complaints.out == {"x": "accused by a and b"}
    complaints.hear("c", "d")
    complaints.hear("c", "d")
    assert set(complaints.out) == {"x", "c", "d"}
    complaints.saw("e", "gave a wrong share")
    complaints.saw("x", "again")
    assert complaints.out["e"] == "gave a wrong share"
    assert complaints.out["x"] == "accused by a and b"
