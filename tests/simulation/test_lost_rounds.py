"""One hospital lies as it likes: a round is lost at most, and the run goes on.

Liars stand behind the transport: they answer in a hospital's place, or change what it answers.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from protocols import messages as protocol
from protocols import participation
from protocols.shamir import split
from securefed.data.load import FederatedData
from securefed.errors import AskedBefore, RoundAborted
from securefed.model.scores import COUNTS, metrics
from securefed.run_directory import Run
from securefed.server.honest_sums import require_sum
from securefed.server.rounds import RoundRecord, stepped_aside
from securefed.simulation.results import write_results
from securefed.simulation.simulation import Simulation
from securefed.wire import messages
from securefed.wire.contribution import Contribution, ContributionLayout, Total
from securefed.wire.messages import PlainContribution, Reply, Request
from securefed.wire.openings import Openings
from tests import tiny
from tests.tiny import settings_with

LIAR = "hospital-2"
settings = settings_with(
    privacy={"dp": False},
    secure_aggregation={"enabled": True, "max_patients": 16},
    federation={"shared": "classifier", "rounds": 4, "evaluate_every": 2},
)
Lie = Callable[[Request, Reply], Reply]


@pytest.fixture
def run(tmp_path: Path, patients: FederatedData) -> Simulation:
    return begin(tmp_path, patients)


def begin(
    path: Path, patients: FederatedData, *, masks: bool = True, evaluate_every: int = 2
) -> Simulation:
    wanted = settings(
        federation={"evaluate_every": evaluate_every}, secure_aggregation={"enabled": masks}
    )
    return tiny.start(wanted, path / "run", patients)


def resume(path: Path, patients: FederatedData) -> Simulation:
    return tiny.resume(path / "run", patients)


def lies(run: Simulation, lie: Lie, name: str = LIAR) -> None:
    """From now on a hospital's replies are what `lie` makes of them."""
    client = run.hospitals[name].client
    honest = client.handle

    def handle(data: bytes) -> bytes:
        request, reply = messages.decode_request(data), messages.decode_reply(honest(data))
        return messages.encode(lie(request, reply))

    run.served.transport._inner._handlers[name] = handle  # type: ignore[attr-defined]


def contributes(run: Simulation, change: Callable[[Request, np.ndarray], np.ndarray]) -> None:
    """From now on a hospital masks other words than its own; the masks are right."""
    client = run.hospitals[LIAR].client
    mask = client._mask

    def instead(request: Request, words: np.ndarray, secure: object) -> bytes:
        return mask(request, change(request, words.copy()), secure)  # type: ignore[arg-type]

    client._mask = instead  # type: ignore[method-assign]


def finish(run: Simulation) -> list[RoundRecord]:
    records = [record for record, _ in run.rounds()]
    final = run.evaluate()
    write_results(run, final, None)
    return [*records, final]


# ---- what is decoded from a sum ---------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [2**32 - 1, 2**31, 2**31 - 1, 10**6, 4 * 16 + 1], ids=lambda value: f"{value:x}"
)
def test_a_histogram_that_is_none_costs_the_scores_and_nothing_else(
    value: int, run: Simulation
) -> None:
    def change(request: Request, words: np.ndarray) -> np.ndarray:
        if request.evaluate:
            words[:] = value
        return words

    contributes(run, change)
    *rounds, final = finish(run)
    assert [len(record.survivors) for record in rounds] == [4, 4, 4, 4]
    assert all(record.metrics is None for record in (*rounds, final))
    assert "a histogram that is none" in rounds[0].unscored
    assert "a histogram that is none" in final.aborted


@pytest.mark.parametrize("total", [0, 1, 3, 65, 2**22, 2**23 - 1])  # in a ring of 2^23
def test_a_total_of_patients_that_nobody_can_have_costs_the_round(
    total: int, run: Simulation
) -> None:
    """Three others have ten patients each; the liar makes the sum what it likes."""

    def change(request: Request, words: np.ndarray) -> np.ndarray:
        if request.round == 2:
            words[-1] = (total - 30) % 2**32
        return words

    contributes(run, change)
    rounds = finish(run)[:-1]
    assert [len(record.survivors) for record in rounds] == [4, 0, 4, 4]
    assert f"shows {total} patients" in rounds[1].aborted


def test_noise_in_place_of_a_contribution_costs_rounds_and_never_the_run(run: Simulation) -> None:
    rng = np.random.default_rng(0)
    contributes(run, lambda request, words: rng.integers(0, 2**32, len(words)).astype(np.uint32))
    before = run.server.shared.copy()
    *rounds, final = finish(run)
    assert all(record.aborted and not record.survivors for record in rounds)
    assert final.aborted
    # Four times one digit: each lost question is another, so that hospitals go on answering.
    assert 0 < np.abs(run.server.shared - before).max() < 1e-5
    assert [view.mean for view in Run.open(run.directory.path).observers().server().rounds] == []


def test_an_update_beyond_every_range_costs_the_round(run: Simulation) -> None:
    def change(request: Request, words: np.ndarray) -> np.ndarray:
        if request.round == 2:
            words[:3] = 2 ** (run.job.layout.modulus_bits - 1) - 1
        return words

    contributes(run, change)
    rounds = finish(run)[:-1]
    assert [len(record.survivors) for record in rounds] == [4, 0, 4, 4]
    assert "no update, or one beyond 4" in rounds[1].aborted


def test_a_plain_update_that_no_parameters_explain_is_dropped(
    tmp_path: Path, patients: FederatedData
) -> None:
    run = begin(tmp_path, patients, masks=False)

    def lie(request: Request, reply: Reply) -> Reply:
        honest = messages.decode_contribution(reply.body)
        if not request.train:
            return reply
        absurd = np.full(run.job.parameters, 3e4, np.float32)
        body = PlainContribution(messages.vector_to_bytes(absurd), honest.patients, honest.counts)
        return msgspec.structs.replace(reply, body=messages.encode(body))

    lies(run, lie)
    rounds = finish(run)[:-1]
    assert all(record.survivors and LIAR not in record.survivors for record in rounds)


LAYOUT = ContributionLayout(parameters=3, clients=4, value_range=4.0, max_patients=16)


@given(words=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40), train=st.booleans())
@hypothesis_settings(max_examples=300, deadline=None)
def test_whatever_a_sum_holds_is_refused_by_name_or_is_one(words: list[int], train: bool) -> None:
    few = np.array(words, np.uint32)
    trained, scored = np.resize(few, LAYOUT.words), np.resize(few, LAYOUT.scores.words)
    total = LAYOUT.decode(trained, 1) if train else LAYOUT.scores.decode(scored)
    with suppress(RoundAborted):
        require_sum(total, Request(1, "work", train=train, evaluate=not train), 4, LAYOUT)
        if train:
            assert total.mean_update is not None
            assert np.abs(total.mean_update).max() < 4.001
        else:
            assert total.metrics is not None
            auc = total.metrics.auc
            assert auc is None or 0 <= auc <= 1


@given(
    counts=st.lists(st.integers(0, 64), min_size=1, max_size=8).map(
        lambda few: np.resize(np.array(few, np.int64), COUNTS)
    )
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_every_histogram_that_is_let_through_has_metrics(counts: np.ndarray) -> None:
    require_sum(Total(None, 0, counts), Request(1, "work", evaluate=True), 4, LAYOUT)
    assert metrics(counts).patients == counts.sum()


def test_an_honest_sum_at_its_extremes_passes() -> None:
    update = np.array([4.0, -4.0, 0.0], np.float32)
    parts = [Contribution(update, n, 1) for n in (1, 1, 1, 16)]
    total = np.stack([LAYOUT.encode(part) for part in parts]).sum(axis=0, dtype=np.uint32)
    require_sum(LAYOUT.decode(total, 1), Request(1, "work", train=True), 4, LAYOUT)


# ---- boxes and shares -------------------------------------------------------------------------


def test_garbage_in_sealed_boxes_costs_the_liar_its_place_and_honest_ones_nothing(
    tmp_path: Path, patients: FederatedData
) -> None:
    run = tiny.start(settings(privacy={"dp": True}), tmp_path / "run", patients)

    def lie(request: Request, reply: Reply) -> Reply:
        if request.stage != "share":
            return reply
        shares = msgspec.msgpack.decode(reply.body, type=protocol.Shares)
        boxes = [
            msgspec.structs.replace(box, sealed=bytes(len(box.sealed))) for box in shares.boxes
        ]
        body = protocol.encode(msgspec.structs.replace(shares, boxes=boxes))
        return msgspec.structs.replace(reply, body=body)

    lies(run, lie)
    *rounds, final = finish(run)
    assert [len(record.survivors) for record in rounds] == [3, 3, 3, 3]
    assert LIAR in rounds[0].dropped
    for name, hospital in run.hospitals.items():
        assert hospital.ledger is not None
        assert len(hospital.ledger.history()) == (0 if name == LIAR else 4)
    assert final.aborted, "exact scores are everybody's or nobody's"


def test_shares_of_nothing_cost_one_round(
    tmp_path: Path, patients: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round is lost after it may have been opened. The liar is out, so that the same hospitals
    cannot answer the same again: the next question is another by one digit."""
    run = begin(tmp_path, patients, evaluate_every=100)
    lying = False

    def deal(
        secret: bytes, threshold: int, points: Sequence[int], entropy: Callable[[int], bytes]
    ) -> list[bytes]:
        wrong = lying and threading.current_thread().name == LIAR
        return split(bytes(32) if wrong else secret, threshold, points, entropy)

    monkeypatch.setattr(participation, "split", deal)
    records = []
    for record, _ in run.rounds():
        records.append(record)
        lying = True  # the shares for round 2 are dealt by now
    assert [len(record.survivors) for record in records] == [4, 4, 0, 3]
    assert LIAR in records[3].dropped
    assert records[3].metrics is None
    write_results(run, run.evaluate(), None)
    seen = Run.open(run.directory.path).observers().server()
    assert [view.number for view in seen.rounds] == [1, 2, 4]


# ---- crashes ----------------------------------------------------------------------------------


def lose_openings(run: Simulation, number: int) -> None:
    """The server dies after it asked for shares in a step: no reply reaches it."""
    inner = run.served.transport._inner
    stage = inner.stage

    class Dying:
        def clients(self) -> list[str]:
            return inner.clients()

        def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
            replies = stage(requests, deadline_s)
            first = messages.decode_request(next(iter(requests.values())))
            if (first.round, first.stage) == (number, "unmask"):
                raise KeyboardInterrupt
            return replies

    run.served.transport._inner = Dying()


def test_after_a_crash_the_same_hospitals_are_asked_again(
    tmp_path: Path, patients: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One was late when the server died, and is left out though it is back: of two sums over
    different hospitals the difference would be its update."""
    first = begin(tmp_path, patients)
    trainer = first.hospitals[LIAR].trainer
    contribute = trainer.contribute

    def late(number: int) -> object:
        if number == 2:
            raise OSError("not now")
        return contribute(number)

    monkeypatch.setattr(trainer, "contribute", late)
    lose_openings(first, 2)
    with pytest.raises(KeyboardInterrupt):
        for _ in first.rounds():
            pass
    second = resume(tmp_path, patients)
    rounds = finish(second)[:-1]
    assert [record.round for record in rounds] == [2, 3, 4]
    assert [len(record.survivors) for record in rounds] == [3, 4, 4]
    assert rounds[0].dropped[LIAR] == "not in the sum that may be open"
    seen = Run.open(second.directory.path).observers().server()
    assert [view.number for view in seen.rounds] == [1, 2, 3, 4]


def test_a_run_that_cannot_ask_the_same_hospitals_again_stops_by_name_and_goes_on_later(
    tmp_path: Path, patients: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = begin(tmp_path, patients)
    lose_openings(first, 2)
    with pytest.raises(KeyboardInterrupt):
        for _ in first.rounds():
            pass
    second = resume(tmp_path, patients)
    monkeypatch.setattr(
        second.hospitals[LIAR].trainer, "contribute", lambda number: (_ for _ in ()).throw(OSError)
    )
    with pytest.raises(AskedBefore, match="hospital-2 did not answer") as stopped:
        next(second.rounds())
    assert stopped.value.hint == "resume the run when they are back"
    third = resume(tmp_path, patients)
    assert [len(record.survivors) for record in finish(third)[:-1]] == [4, 4, 4]
    seen = Run.open(third.directory.path).observers().server()
    assert [view.number for view in seen.rounds] == [1, 2, 3, 4]


def test_rounds_that_move_nothing_are_over_the_same_hospitals_or_lost(
    tmp_path: Path, patients: FederatedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody drew nobody: the next round's question is the same, and its sum is known."""
    run = tiny.start(settings(federation={"strategy": "fedavg"}), tmp_path / "run", patients)
    for name, hospital in run.hospitals.items():

        def nothing(number: int, name: str = name) -> np.ndarray:
            if name == LIAR and number in (2, 3):
                raise OSError("not now")
            return np.zeros(run.job.parameters, np.float32)

        monkeypatch.setattr(hospital.trainer, "contribute", nothing)
    rounds = finish(run)[:-1]
    assert [len(record.survivors) for record in rounds] == [4, 0, 0, 4]
    assert [view.number for view in Run.open(run.directory.path).observers().server().rounds] == [
        1,
        4,
    ]
    assert f"asks the same as one before, and {LIAR} did not answer" in rounds[1].aborted


def test_a_finished_run_is_scored_again_by_the_same(
    tmp_path: Path, patients: FederatedData
) -> None:
    first = finish(begin(tmp_path, patients))[-1]
    again = finish(resume(tmp_path, patients))[-1]
    assert first.metrics == again.metrics


def test_a_run_whose_hospital_lost_its_memory_does_not_go_on(
    tmp_path: Path, patients: FederatedData
) -> None:
    first = begin(tmp_path, patients)
    next(first.rounds())
    (first.hospitals[LIAR].folder / "openings.jsonl").unlink()
    with pytest.raises(Exception, match=r"openings\.jsonl: missing"):
        resume(tmp_path, patients)


# ---- the memory itself ------------------------------------------------------------------------

QUESTION = "ab" * 32


def test_a_memory_forgets_only_an_answer_that_did_not_leave(tmp_path: Path) -> None:
    path = tmp_path / "openings.jsonl"
    memory = Openings(path)
    memory.note(QUESTION, ["b", "a"])
    with path.open("ab") as out:
        out.write(b'{"question":"cd')
    again = Openings(path)
    assert again.over(QUESTION) == frozenset({"a", "b"})
    again.note("cd" * 32, ["a"])
    assert Openings(path).over("cd" * 32) == frozenset({"a"})
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_memory_names_hospitals_again_only_where_they_are_others(tmp_path: Path) -> None:
    """Each of n hospitals has one: with all names in every line they grow like n squared."""
    path, many = tmp_path / "openings.jsonl", [f"hospital-{number}" for number in range(100)]
    memory = Openings(path)
    for number, over in enumerate([many, many, many[1:], many]):
        memory.note(f"{number:064x}", over)
    assert [b"hospital-9" in line for line in path.read_bytes().splitlines()] == [1, 0, 1, 1]
    for again in (memory, Openings(path)):
        assert again.over(f"{1:064x}") == again.over(f"{3:064x}") == frozenset(many)
        assert again.over(f"{2:064x}") == frozenset(many[1:])
    again.note(f"{4:064x}", many)  # after a restart
    assert Openings(path).over(f"{4:064x}") == frozenset(many)


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b'{"question":"ab","over":["a"]}', b"\xff", b'{"question":1,"over":[]}']
    + [
        f'{{"question":"{QUESTION}","over":{over}}}'.encode()
        for over in ("[]", '[""]', "[1]", "null")
    ],
)
def test_a_damaged_memory_is_refused(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "openings.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(Exception, match=r"openings\.jsonl, line 1"):
        Openings(path)


def test_a_step_aside_is_one_digit_of_one_parameter() -> None:
    before = np.array([0.0, -3.0, 2.0])
    after = stepped_aside(before)
    sent = before.astype(np.float32), after.astype(np.float32)
    assert (sent[0] != sent[1]).tolist() == [False, True, False]
    assert abs(sent[1][1]) == np.nextafter(np.float32(3), np.float32(0))
