"""Masks on the wire: every way to hide too little is a FAIL with hospital and round.

Runs are real, and so are their faults, which server and hospitals share: sums open, the replay by
the same build agrees, and before these checks its audit said that the server sees no updates.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocols.packing import pack
from securefed.auditing.audit import audit
from securefed.evidence import checks, known_answers
from securefed.evidence.masked_words import Masked, masked_words
from securefed.evidence.masks import ALARM, PLACE, Sent, _oddities, _repeats, of_masks
from securefed.evidence.repeated_words import Series, traces, window
from securefed.evidence.uniform_words import oddities, reduced
from securefed.record.mismatch import Mismatch
from securefed.run_directory import Run
from securefed.verdict import Verdict
from securefed.wire.plan import Step
from tests.sabotage import (
    Fault,
    broken,
    keystream,
    masks_in_the_place_of_seeds,
    masks_of,
    of_a_counter,
    of_every_second_word,
    of_few_bits,
    of_one_number,
    of_the_first_half,
    of_zeros,
    only_the_self_mask,
    run_with,
    the_same_each_round,
    words_in_the_clear_behind_the_masked_ones,
)

SMALL = {
    "data": {"phantom": {"patients": 8, "test_patients": 4}},
    "federation": {"rounds": 3, "clients": 3, "shared": "classifier", "evaluate_every": 9},
    "secure_aggregation": {"enabled": True, "max_patients": 16},
    "privacy": {"dp": False},
}


def of_wire(run: Run) -> list[Mismatch]:
    return [each for each in checks.mismatches(run) if each.file in (PLACE, known_answers.PLACE)]


FAULTS = [
    pytest.param(masks_of(of_zeros), "words are 0", id="zero masks"),
    pytest.param(masks_of(of_a_counter), "not even", id="a 32-bit counter"),
    pytest.param(masks_of(of_one_number), "words", id="one mask for a whole vector"),
    pytest.param(masks_of(the_same_each_round), "is in", id="the same masks each round"),
    pytest.param(masks_of(of_the_first_half), "words", id="half of the words"),
    pytest.param(masks_of(of_every_second_word), "words", id="every second word"),
    pytest.param(masks_of(of_few_bits), "not even", id="few bits"),
    pytest.param(only_the_self_mask, "without the self mask", id="no masks of pairs"),
    pytest.param(masks_in_the_place_of_seeds, "is in the message work", id="in the wrong place"),
    pytest.param(
        words_in_the_clear_behind_the_masked_ones, "behind its words", id="words in the padding"
    ),
]


@pytest.mark.parametrize(("fault", "text"), FAULTS)
def test_masks_that_hide_too_little_are_named_by_hospital_and_round(
    tmp_path: Path, fault: Fault, text: str
) -> None:
    """By the build that has the fault, whose replay agrees with itself, and by a sound one."""
    run_with(fault, tmp_path / "run", **SMALL)
    with broken(fault):
        by_itself = checks.mismatches(Run.open(tmp_path / "run"))
    assert {each.file for each in by_itself} <= {PLACE, known_answers.PLACE}
    for found in (by_itself, of_wire(Run.open(tmp_path / "run"))):
        told = [each.told for each in found if "not hidden by masks" in each.told]
        for hospital in ("hospital-1", "hospital-2", "hospital-3"):
            assert any(line.startswith(f"{hospital}, ") for line in told), found
        assert all("round " in line for line in told)
        assert any(text in line for line in told), told


def test_an_audit_by_the_same_broken_build_fails(tmp_path: Path) -> None:
    fault = masks_of(of_every_second_word)
    with broken(fault):
        file = audit(run_with(fault, tmp_path / "run", **SMALL), effort="quick")
    assert file.verdict is Verdict.FAIL
    assert any("hospital-2, " in each.told for each in file.evidence if each.file == PLACE)
    assert any(each.file == known_answers.PLACE for each in file.evidence)


def test_a_hospital_that_sends_its_vector_as_it_is_is_the_only_one_named(run: Path) -> None:
    """Its masked words, exchanged for its own in the recording: by a shift, plus a constant."""
    opened = Run.open(run)
    one = next(each for each in masked_words(opened) if each.trains and each.round == 2)
    own = np.fromfile(run / "hospitals" / one.hospital / "contributions" / "messages.bin", "<u4")
    own = own.reshape(3, -1)[1]
    assert own.size == one.words.size
    sent = (np.roll(own, 3) + np.uint32(12345)) & np.uint32(2**one.bits - 1)
    where = run / "exposures" / "messages.bin"
    data = where.read_bytes()
    before = pack(one.words, one.bits).tobytes()
    assert data.count(before) == 1
    where.write_bytes(data.replace(before, pack(sent, one.bits).tobytes()))
    told = {each.told.split(":")[0] for each in of_masks(Run.open(run))}
    assert f"{one.hospital}, round 2" in told
    assert not any(line.startswith("hospital-2") for line in told)


def test_words_are_read_as_the_protocol_reads_them(whole: Path) -> None:
    """The two readers share no code."""
    run = Run.open(whole)
    found = [each for each in masked_words(run) if each.trains and each.round == 1]
    total = sum((each.opened for each in found if each.opened is not None), np.uint32(0))
    summed = run.observers().replayed.rounds[1].summed
    assert summed is not None
    assert summed.words is not None
    width = np.uint32(2 ** found[0].bits - 1)
    assert np.array_equal(total & width, summed.words & width)


# ---- honest draws --------------------------------------------------------------------------------

DRAWS, LENGTH, BITS = 200, 600, 22


def draws(bits: int) -> Iterator[Sent]:
    """Updates under keystreams of fixed keys: in part zeros, as of a network's dead units."""
    rng = np.random.default_rng(7)
    for draw in range(DRAWS):
        own = reduced(np.rint(rng.normal(0, 300, LENGTH)).astype(np.int64).astype(np.uint32), bits)
        own[:80] = 0
        key = draw.to_bytes(32, "big")
        pairs = keystream(b"pairs" + key[5:], LENGTH)
        words = reduced(own + keystream(key, LENGTH) + pairs, bits)
        step = Step(draw // 4, draw // 4, True, ())
        masked = Masked(
            f"hospital-{draw % 4}", step, 0, draw // 4, draw % 4, bits, words, words[:0]
        )
        yield Sent(replace(masked, self_mask_key=key), (own,))


@pytest.mark.parametrize("bits", [BITS, 32])
def test_two_hundred_honest_draws_raise_no_alarm(bits: int) -> None:
    sent = list(draws(bits))
    assert [*_oddities(sent), *_repeats(sent)] == []
    messages = [each.masked.words.tobytes() for each in sent]
    needles = [Series(i, own, kept=True) for i, each in enumerate(sent) for own in each.own]
    needles += [Series(i, each.masks[0], sent=each.masked.words) for i, each in enumerate(sent)]
    assert list(traces(needles, messages, sum(map(len, messages)), bits, ALARM)) == []


def test_p_values_keep_what_they_promise() -> None:
    """At level .05 no more than .05 of honest draws are below it, in each test."""
    below: Counter[int] = Counter()
    for each in draws(BITS):
        words = oddities(each.masked.words, BITS, each.own[0])
        below.update(position for position, (p, _) in enumerate(words) if p < 0.05)
    # 10 of 200 expected at most; 22 or more come once in 2,000 times.
    assert all(times < 22 for times in below.values())


def test_a_window_is_wide_enough_for_its_alarm() -> None:
    for candidates, bits in ((2, 32), (10**4, 22), (2**22, 28), (2**30, 8)):
        assert candidates**2 * 2.0 ** (-bits * window(candidates, bits, 1e-9)) <= 1e-9


# ---- known answers -------------------------------------------------------------------------------


def test_the_shipped_answers_are_the_published_ones() -> None:
    vectors = Path(__file__).parent.parent / "vectors"
    shipped = known_answers.ANSWERS
    first = json.loads((vectors / "mlkem768.json").read_text())["cases"][0]
    assert shipped["ML-KEM-768"]["inputs"] == [first["d"] + first["z"], first["ct"]]
    assert shipped["ML-KEM-768"]["answer"] == first["ss"]
    ctr = json.loads((vectors / "aes_ctr_sp800_38a.json").read_text())
    assert shipped["AES-256-CTR"]["answer"] == ctr["ciphertext"]
    x25519 = json.loads((vectors / "x25519_rfc7748.json").read_text())["single"][0]
    assert shipped["X25519"]["inputs"] == [x25519["scalar"], x25519["u"]]
    assert shipped["X25519"]["answer"] == x25519["output"]
    hkdf = json.loads((vectors / "hkdf_rfc5869.json").read_text())["cases"][0]
    assert shipped["HKDF-SHA256"]["answer"] == hkdf["output"]
    # AES-256 of the zero block under the zero key: H of test case 13 of the GCM submission.
    assert shipped["AES-256-CTR from zero"]["answer"] == "dc95c078a2408989ad48a21492842087"


def test_a_program_that_cannot_answer_judges_no_run(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(whole)
    assert list(known_answers.of_program(run)) == []
    monkeypatch.setattr(known_answers, "hkdf", lambda *args: bytes(42))
    (found,) = known_answers.of_program(run)
    assert found.told.startswith("HKDF-SHA256 of protocols.key_agreement is not the published")
