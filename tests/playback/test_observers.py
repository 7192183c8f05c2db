"""What each observer of a recorded run saw, against what the hospitals really did."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.errors import ConfigurationError, RunError
from securefed.exposure import OBSERVERS, Exposure, Observer
from securefed.playback import server
from securefed.playback.recorded import RecordedRun
from securefed.record.directory import read_tensors, save_tensors
from securefed.reporting.sights import sights
from securefed.run_directory import Run
from securefed.simulation.results import write_results
from securefed.simulation.simulation import Simulation
from securefed.training.mechanism import Values
from securefed.training.trainer import LocalTrainer
from securefed.wire.contribution import ContributionLayout
from securefed.wire.plain import plain_total
from securefed.wire.shared_noise import SharedNoiseLayout
from tests.tiny import resume, settings_with, start

Vector = NDArray[np.float32]
NAMES = tuple(f"hospital-{index}" for index in range(1, 5))
settings = settings_with(
    training={"max_slices": 2},
    privacy={"dp": False},
    federation={"shared": "classifier", "rounds": 4, "strategy": "fedavg"},
    secure_aggregation={"max_patients": 16},
)


def masked(enabled: bool, **federation: object) -> Settings:
    return settings(secure_aggregation={"enabled": enabled}, federation=federation)


@dataclass
class Truth:
    """What hospitals really sent: (name, round) -> update; and the simulation behind it."""

    path: Path
    updates: dict[tuple[str, int], Vector]
    words: dict[tuple[str, int], NDArray[np.uint32]]
    simulation: Simulation

    def mean(self, number: int, names: tuple[str, ...] = NAMES) -> NDArray[np.float64]:
        counts = np.zeros(1, np.int64)
        total = plain_total([(self.updates[name, number], 10, counts) for name in names])
        assert total.mean_update is not None
        return total.mean_update

    @property
    def bound(self) -> float:
        """Of the error that fixed point makes, plus a float32 rounding."""
        layout = self.simulation.hospitals[NAMES[0]].trainer.layout
        assert isinstance(layout, ContributionLayout)
        return layout.error_bound(clients=4, patients=10) + 1e-7


def open_truth(
    wanted: Settings,
    path: Path,
    patients: FederatedData,
    *,
    fails: tuple[tuple[str, int], ...] = (),
    before: Truth | None = None,
) -> Truth:
    """A federation that remembers what its hospitals send; `fails` are (name, round)."""
    simulation = resume(path, patients) if before else start(wanted, path, patients)
    truth = Truth(
        path, before.updates if before else {}, before.words if before else {}, simulation
    )
    for name, hospital in simulation.hospitals.items():
        _watch(truth, name, hospital.trainer, fails)
    return truth


def _watch(
    truth: Truth, name: str, trainer: LocalTrainer, fails: tuple[tuple[str, int], ...]
) -> None:
    contribute = trainer.contribute

    def watched(round_number: int) -> Values:
        if (name, round_number) in fails:
            raise RunError("no")
        values = contribute(round_number)
        if values.dtype == np.uint32:
            truth.words[name, round_number] = values.astype(np.uint32)
        else:
            truth.updates[name, round_number] = values.astype(np.float32)
        return values

    trainer.contribute = watched  # type: ignore[method-assign]


def finish(truth: Truth) -> Truth:
    for _ in truth.simulation.rounds():
        pass
    write_results(truth.simulation, truth.simulation.evaluate(), None)
    return truth


def run(
    wanted: Settings,
    path: Path,
    patients: FederatedData,
    fails: tuple[tuple[str, int], ...] = (),
) -> Truth:
    return finish(open_truth(wanted, path, patients, fails=fails))


def exposure(path: Path, observer: Observer, member: str = "") -> Exposure:
    return Run.open(path).observers().of(observer, member)


def means(seen: Exposure) -> dict[int, Vector]:
    return {view.number: view.mean for view in seen.rounds if view.mean is not None}


def same(left: Exposure, right: Exposure) -> bool:
    """Whether two exposures hold the same values."""

    def flat(seen: Exposure) -> list[object]:
        found: list[object] = [seen.members, seen.missing, seen.released.tolist()]
        for view in seen.rounds:
            mean = None if view.mean is None else view.mean.tolist()
            updates = {name: update.tolist() for name, update in view.updates.items()}
            found += [view.number, view.shared.tolist(), mean, updates]
            found += [view.patients, view.survivors]
        return found

    return flat(left) == flat(right)


# ---- one plain and one masked run, each with a dropout in round 2, looked at by everybody ------


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, patients: FederatedData) -> Truth:
    path = tmp_path_factory.mktemp("plain") / "run"
    return run(masked(False), path, patients, ((NAMES[1], 2),))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, patients: FederatedData) -> Truth:
    path = tmp_path_factory.mktemp("secure") / "run"
    return run(masked(True), path, patients, ((NAMES[1], 2),))


REST = tuple(name for name in NAMES if name != NAMES[1])


def test_without_masks_the_server_sees_every_update_exactly(plain: Truth) -> None:
    seen = exposure(plain.path, "server")
    assert seen.configuration == "plain"
    assert [view.number for view in seen.rounds] == [1, 2, 3, 4]
    for view in seen.rounds:
        there = REST if view.number == 2 else NAMES
        assert tuple(view.updates) == view.survivors == there
        assert view.patients == dict.fromkeys(there, 10)
        for name in there:
            assert np.array_equal(view.updates[name], plain.updates[name, view.number])
        assert view.mean is not None
        assert np.allclose(view.mean, plain.mean(view.number, there), rtol=1e-6, atol=1e-9)
    assert seen.missing == ""


def test_with_masks_the_server_derives_fedavg_of_the_survivors_and_no_update(
    secure: Truth,
) -> None:
    seen = exposure(secure.path, "server")
    assert not seen.sees_updates
    assert len(seen.rounds) == 4
    for view in seen.rounds:
        there = REST if view.number == 2 else NAMES
        assert view.updates == view.patients == {}
        assert view.survivors == there
        assert view.mean is not None
        assert np.abs(view.mean - secure.mean(view.number, there)).max() <= secure.bound
        assert np.abs(view.mean).max() > 100 * secure.bound, "the bound must mean something"


@pytest.mark.parametrize("kind", ["plain", "secure"])
def test_released_parameters_follow_from_the_last_round(
    kind: str, request: pytest.FixtureRequest
) -> None:
    truth: Truth = request.getfixturevalue(kind)
    seen = exposure(truth.path, "server")
    last = seen.rounds[-1]
    assert last.mean is not None
    assert np.allclose(seen.released, last.shared + last.mean, atol=1e-6)
    assert np.array_equal(seen.released, truth.simulation.server.shared.astype(np.float32))


def test_the_server_needs_no_hospitals_folder(secure: Truth, tmp_path: Path) -> None:
    shutil.copytree(secure.path, tmp_path / "run", ignore=shutil.ignore_patterns("hospitals"))
    assert not (tmp_path / "run" / "hospitals").exists()
    assert same(exposure(tmp_path / "run", "server"), exposure(secure.path, "server"))
    with pytest.raises(RunError, match="cannot read the recorded messages"):
        exposure(tmp_path / "run", "coalition", NAMES[0])


@pytest.mark.parametrize("kind", ["plain", "secure"])
@pytest.mark.parametrize("victim", [NAMES[0], NAMES[1]])
def test_a_coalition_of_all_but_one_has_the_last_ones_update(
    kind: str, victim: str, request: pytest.FixtureRequest
) -> None:
    truth: Truth = request.getfixturevalue(kind)
    seen = exposure(truth.path, "coalition", victim)
    assert seen.members == tuple(name for name in NAMES if name != victim)
    assert seen.sees_updates
    assert len(seen.rounds) == 4
    for view in seen.rounds:
        there = REST if view.number == 2 else NAMES
        assert set(view.updates) == set(there)
        assert view.patients == dict.fromkeys(there, 10)
        for name in there:
            error = np.abs(view.updates[name] - truth.updates[name, view.number]).max()
            assert error <= truth.bound


@pytest.mark.parametrize("kind", ["plain", "secure"])
def test_a_peer_knows_its_own_updates_and_the_mean_by_subtraction(
    kind: str, request: pytest.FixtureRequest
) -> None:
    truth: Truth = request.getfixturevalue(kind)
    seen = exposure(truth.path, "peer", NAMES[2])
    assert seen.members == (NAMES[2],)
    assert not seen.sees_updates, "an update of somebody else"
    assert len(seen.rounds) == 4
    for view in seen.rounds:
        there = REST if view.number == 2 else NAMES
        assert set(view.updates) == {NAMES[2]}
        assert view.patients == {NAMES[2]: 10}
        assert np.abs(view.updates[NAMES[2]] - truth.updates[NAMES[2], view.number]).max() <= (
            truth.bound
        )
        assert view.mean is not None
        rounding = np.spacing(np.abs(view.shared)).max()
        assert np.abs(view.mean - truth.mean(view.number, there)).max() <= (
            truth.bound + 2 * rounding
        )
        # Masks make it confirm who is in the sum; without them nobody tells.
        assert view.survivors == (there if kind == "secure" else ())


def test_a_peer_that_dropped_out_has_sent_nothing_in_that_round(secure: Truth) -> None:
    seen = exposure(secure.path, "peer", NAMES[1])
    assert [tuple(view.updates) for view in seen.rounds] == [(NAMES[1],), (), *2 * [(NAMES[1],)]]


@pytest.mark.parametrize("kind", ["plain", "secure"])
def test_a_peer_reads_nobody_elses_messages(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    truth: Truth = request.getfixturevalue(kind)
    whole = exposure(truth.path, "peer", NAMES[2])
    copy = tmp_path / "run"
    shutil.copytree(truth.path, copy)
    for name in NAMES:
        if name != NAMES[2]:
            shutil.rmtree(copy / "hospitals" / name)
    with (copy / "exposures" / "messages.bin").open("r+b") as store:
        for seen in index(copy):
            if seen["client"] != NAMES[2]:
                store.seek(seen["offset"])
                store.write(b"\xff" * seen["size"])
    assert same(whole, exposure(copy, "peer", NAMES[2]))
    with pytest.raises(RunError):
        exposure(copy, "server")


@pytest.mark.parametrize("kind", ["plain", "secure"])
@pytest.mark.parametrize("observer", ["server", "coalition", "outsider"])
def test_the_report_calls_a_hospital_exposed_where_its_update_can_be_told_apart(
    observer: Observer, kind: str, request: pytest.FixtureRequest
) -> None:
    truth: Truth = request.getfixturevalue(kind)
    (sight,) = [
        s
        for s in sights(kind, len(NAMES), None, 0, "", declared=False, scored=None)
        if s.observer == observer
    ]
    assert sight.exposed == exposure(truth.path, observer, NAMES[0]).sees_updates


def test_an_outsider_has_the_released_parameters_only(secure: Truth, tmp_path: Path) -> None:
    shutil.copytree(
        secure.path, tmp_path / "run", ignore=shutil.ignore_patterns("hospitals", "exposures")
    )
    seen = exposure(tmp_path / "run", "outsider")
    assert seen.rounds == ()
    assert np.array_equal(seen.released, exposure(secure.path, "server").released)


# ---- strategies, cohorts, shared noise ---------------------------------------------------------


def test_a_peer_solves_fedadams_steps_for_the_mean(tmp_path: Path, patients: FederatedData) -> None:
    truth = run(masked(True, strategy="fedadam", rounds=6), tmp_path / "run", patients)
    seen, server = exposure(truth.path, "peer", NAMES[0]), exposure(truth.path, "server")
    assert len(means(server)) == 6
    assert set(means(seen)) >= {1, 2, 3}
    for number, mean in means(seen).items():
        view = seen.rounds[number - 1]
        assert view.number == number
        length = np.linalg.norm(truth.mean(number))
        error = np.linalg.norm(mean - truth.mean(number)) / length
        certain = "not certain" not in seen.missing
        rounded = 1e-5 * np.sqrt(mean.size) / length  # secure_aggregation.rounding_error
        assert error < (1e-3 + rounded if certain or number <= 2 else 0.5), (number, seen.missing)


def test_a_sampled_cohort_leaves_a_peer_without_the_rounds_it_missed(
    tmp_path: Path, patients: FederatedData
) -> None:
    wanted = masked(True, clients_per_round=3, rounds=6)
    truth = run(wanted, tmp_path / "run", patients)
    server, peer = exposure(truth.path, "server"), exposure(truth.path, "peer", NAMES[0])
    took_part = [v.number for v in server.rounds if NAMES[0] in v.survivors]
    assert 0 < len(took_part) < 6
    assert [view.number for view in peer.rounds] == took_part
    for view in server.rounds:
        assert len(view.survivors) == 3
        assert view.mean is not None
        assert np.abs(view.mean - truth.mean(view.number, view.survivors)).max() <= truth.bound
    # The mean of a round is known where the hospital was also asked in the next, or it was last.
    after = {number for number in took_part if number + 1 in (*took_part, 7)}
    assert set(means(peer)) == after


def test_under_shared_noise_the_mean_is_the_noised_step_and_a_victim_has_one_share(
    tmp_path: Path, patients: FederatedData
) -> None:
    wanted = settings(
        privacy={"dp": True, "epsilon": 50.0, "placement": "distributed"},
        federation={"shared": "fusion+classifier", "rounds": 2},
    )
    truth = run(wanted, tmp_path / "run", patients)
    layout = truth.simulation.hospitals[NAMES[0]].trainer.layout
    assert isinstance(layout, SharedNoiseLayout)
    seen = exposure(truth.path, "coalition", NAMES[0])
    assert len(seen.rounds) == 2
    for view in seen.rounds:
        words = {name: truth.words[name, view.number] for name in NAMES}
        total = np.stack(list(words.values())).sum(axis=0, dtype=np.uint32)
        assert view.mean is not None
        step = -0.3 / 20 * layout.code.decode(total, view.number)
        assert np.allclose(view.mean, step, rtol=1e-5, atol=1e-8)
        own = -0.3 / 5 * layout.code.decode(words[NAMES[0]], view.number)
        assert np.allclose(view.updates[NAMES[0]], own, rtol=1e-5, atol=1e-8)
        assert view.patients[NAMES[0]] == 10


# ---- rounds that went wrong --------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [False, True])
def test_an_aborted_round_has_no_mean_and_the_trail_goes_on(
    enabled: bool, tmp_path: Path, patients: FederatedData
) -> None:
    fails = ((NAMES[0], 2), (NAMES[1], 2))
    truth = run(masked(enabled, minimum_clients=3), tmp_path / "run", patients, fails)
    seen = exposure(truth.path, "server")
    assert set(means(seen)) == {1, 3, 4}
    assert seen.missing == "round 2: aborted, nothing was aggregated"
    # Without masks the server has the updates that came, although it used none.
    updates = {view.number: set(view.updates) for view in seen.rounds}
    assert updates.get(2) == (None if enabled else {NAMES[2], NAMES[3]})
    assert 2 not in means(exposure(truth.path, "peer", NAMES[2]))


@pytest.mark.parametrize("enabled", [False, True])
def test_a_repeated_round_is_the_one_that_the_run_went_on_from(
    enabled: bool, tmp_path: Path, patients: FederatedData
) -> None:
    wanted = settings(privacy={"dp": True}, secure_aggregation={"enabled": enabled})
    first = open_truth(wanted, tmp_path / "run", patients)
    rounds = first.simulation.rounds()
    next(rounds)
    next(rounds)
    next(first.simulation.server.train())  # round 3 without its check point: a crash came
    lost = {key: update for key, update in first.updates.items() if key[1] == 3}
    truth = finish(open_truth(wanted, tmp_path / "run", patients, before=first))
    finished = truth.simulation.server.finished
    assert finished >= 3, "the budget must have left room for the repetition"
    assert not any(np.array_equal(lost[key], truth.updates[key]) for key in lost)
    seen = exposure(truth.path, "server")
    assert [view.number for view in seen.rounds] == list(range(1, finished + 1))
    assert seen.missing == "round 3: repeated by a resumed run; the earlier attempt is left out"
    for number, mean in means(seen).items():
        assert np.abs(mean - truth.mean(number)).max() <= truth.bound
    victim = exposure(truth.path, "coalition", NAMES[3]).rounds[2].updates[NAMES[3]]
    assert np.abs(victim - truth.updates[NAMES[3], 3]).max() <= truth.bound


def test_a_round_cut_short_by_a_stop_is_left_out(tmp_path: Path, patients: FederatedData) -> None:
    wanted = masked(True)
    first = open_truth(wanted, tmp_path / "run", patients)
    inner = first.simulation.served.transport._inner
    stage = inner.stage

    def stop(requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        if first.simulation.server.finished == 1 and b"ask unmask" in next(iter(requests.values())):
            raise KeyboardInterrupt
        return stage(requests, deadline_s)

    inner.stage = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        finish(first)
    truth = finish(open_truth(wanted, tmp_path / "run", patients, before=first))
    seen = exposure(truth.path, "server")
    assert set(means(seen)) == {1, 2, 3, 4}
    assert "round 2: cut short when the run was stopped" in seen.missing


# ---- recordings that are not whole -------------------------------------------------------------


def index(path: Path) -> list[dict[str, Any]]:
    text = (path / "exposures" / "index.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def forget(path: Path, lost: Callable[[dict[str, Any]], bool]) -> None:
    """Leave only the sizes of some messages, as the size bound does."""
    lines = [{**seen, "offset": None} if lost(seen) else seen for seen in index(path)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "exposures" / "index.jsonl").write_text(text)


@pytest.fixture
def copies(plain: Truth, secure: Truth, tmp_path: Path) -> dict[str, Path]:
    for name, truth in (("plain", plain), ("secure", secure)):
        shutil.copytree(truth.path, tmp_path / name)
    return {name: tmp_path / name for name in ("plain", "secure")}


@pytest.mark.parametrize("kind", ["plain", "secure"])
def test_rounds_beyond_the_size_bound_are_left_out(kind: str, copies: dict[str, Path]) -> None:
    from_round_3 = {3, 4, 7, 9}  # 7 and 9 score what round 3 starts from, and the end
    forget(copies[kind], lambda seen: seen["round"] in from_round_3)
    seen = exposure(copies[kind], "server")
    assert set(means(seen)) == {1, 2}
    assert "rounds 3 to 4: only sizes were kept" in seen.missing
    assert set(means(exposure(copies[kind], "coalition", NAMES[0]))) == {1, 2}


def test_masked_rounds_whose_keys_were_lost_cannot_be_opened_until_keys_are_new(
    copies: dict[str, Path], secure: Truth
) -> None:
    forget(copies["secure"], lambda seen: seen["round"] == 1)
    seen = exposure(copies["secure"], "server")
    # Round 2 was masked with keys from round 1, a hospital dropped out, and round 3 began afresh.
    assert "round 1: only sizes" in seen.missing
    assert "round 2: its keys travelled in a round that was not kept" in seen.missing
    assert set(means(seen)) == {3, 4}
    assert np.abs(means(seen)[4] - secure.mean(4)).max() <= secure.bound
    assert "not checked" in seen.missing


def test_updates_in_the_clear_that_were_kept_are_seen_though_the_mean_is_not(
    copies: dict[str, Path], plain: Truth
) -> None:
    forget(
        copies["plain"],
        lambda seen: (seen["round"], seen["client"], seen["direction"]) == (3, NAMES[0], "up"),
    )
    seen = exposure(copies["plain"], "server")
    assert set(means(seen)) == {1, 2, 4}
    (third,) = [view for view in seen.rounds if view.number == 3]
    assert set(third.updates) == set(NAMES[1:])
    assert np.array_equal(third.updates[NAMES[1]], plain.updates[NAMES[1], 3])


def damage(path: Path, round_number: int, stage: str, direction: str, place: float) -> None:
    """Change one bit of one recorded message; `place` is a share of its length."""
    for seen in index(path):
        if (seen["round"], seen["stage"], seen["direction"]) == (round_number, stage, direction):
            with (path / "exposures" / "messages.bin").open("r+b") as store:
                offset = int(seen["offset"]) + int(place * int(seen["size"]))
                store.seek(offset)
                (byte,) = store.read(1)
                store.seek(offset)
                store.write(bytes([byte ^ 0x20]))
            return
    raise AssertionError("no such message")


@pytest.mark.parametrize(
    ("kind", "round_number", "stage", "direction", "place"),
    [
        ("plain", 3, "work", "up", 0.05),  # an update
        ("plain", 3, "work", "down", 0.5),  # shared parameters
        ("secure", 3, "work", "up", 0.1),  # a masked word
        ("secure", 3, "work", "down", 0.9),  # shared parameters
        ("secure", 3, "confirm", "up", 0.5),  # a signature
        ("secure", 3, "confirm", "down", 0.99),  # who survived
        ("secure", 3, "unmask", "up", 0.3),  # a share
        ("secure", 5, "advertise", "up", 0.5),  # a key
    ],
)
def test_a_changed_recording_is_refused(
    kind: str, round_number: int, stage: str, direction: str, place: float, copies: dict[str, Path]
) -> None:
    exposure(copies[kind], "server")
    damage(copies[kind], round_number, stage, direction, place)
    with pytest.raises(RunError) as refused:
        exposure(copies[kind], "server")
    assert f"round {round_number}" in str(refused.value) or "follow" in str(refused.value)


@pytest.mark.parametrize("kind", ["plain", "secure"])
def test_whatever_is_damaged_ends_in_an_answer_or_a_named_error(
    kind: str, copies: dict[str, Path]
) -> None:
    rng = np.random.default_rng(3)
    files = sorted(
        file
        for file in copies[kind].rglob("*")
        if file.name in ("index.jsonl", "messages.bin", "jobs.jsonl", "run.json")
    )
    refused = 0
    for turn in range(40):
        file = files[turn % len(files)]
        good = file.read_bytes()
        bad = bytearray(good)
        place = int(rng.integers(len(good)))
        if turn % 4:
            bad[place] ^= 1 << int(rng.integers(8))
        else:
            del bad[place:]
        file.write_bytes(bad)
        seats: tuple[tuple[Observer, str], ...] = (
            ("server", ""),
            ("coalition", NAMES[0]),
            ("peer", NAMES[2]),
        )
        for observer, member in seats:
            try:
                exposure(copies[kind], observer, member)
            except (RunError, ConfigurationError):  # the latter: of a hospital whose name changed
                refused += 1
        file.write_bytes(good)
    assert refused > 20
    exposure(copies[kind], "server")  # whole again


def test_a_changed_record_of_ones_own_contribution_is_refused_or_shows(
    copies: dict[str, Path],
) -> None:
    record = copies["secure"] / "hospitals" / NAMES[0] / "contributions" / "messages.bin"
    data = bytearray(record.read_bytes())
    half = len(data) // 4
    data[:half] = bytes(255 - byte for byte in data[:half])
    record.write_bytes(data)
    with pytest.raises(RunError, match="no contribution of"):
        exposure(copies["secure"], "coalition", NAMES[2])
    record.write_bytes(data[: half // 2])
    with pytest.raises(RunError, match="ends before round"):
        exposure(copies["secure"], "coalition", NAMES[2])


def test_another_released_model_than_the_rounds_lead_to_is_refused(copies: dict[str, Path]) -> None:
    path = copies["secure"] / "model.safetensors"
    tensors = read_tensors(path)
    tensors["classifier.output.bias"] = tensors["classifier.output.bias"] + 0.01
    save_tensors(path, tensors, {})
    with pytest.raises(RunError, match=r"round 5 .* do not follow"):
        exposure(copies["secure"], "server")


def test_a_stage_that_the_server_had_no_use_for_is_refused(copies: dict[str, Path]) -> None:
    lines = index(copies["plain"])
    extra = [{**seen, "stage": "unmask"} for seen in lines if seen["round"] == 9]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, *extra])
    (copies["plain"] / "exposures" / "index.jsonl").write_text(text)
    with pytest.raises(RunError, match="round 9 goes on in the recording with stage unmask"):
        exposure(copies["plain"], "server")


def test_without_the_jobs_public_half_nothing_is_opened(copies: dict[str, Path]) -> None:
    file = copies["secure"] / "exposures" / "jobs.jsonl"
    good = file.read_bytes()
    for bad in (b"", b"{}\n", b"[" * 100_000, good.replace(b'"first":0', b'"first":7'), good[:40]):
        file.write_bytes(bad)
        with pytest.raises(RunError, match=r"jobs\.jsonl"):
            exposure(copies["secure"], "server")
    file.unlink()
    with pytest.raises(RunError, match=r"jobs\.jsonl") as refused:
        exposure(copies["secure"], "server")
    assert "older version" in str(refused.value.hint)


def test_another_jobs_rules_open_nothing(copies: dict[str, Path]) -> None:
    file = copies["secure"] / "exposures" / "jobs.jsonl"
    line = json.loads(file.read_text())
    line["rules"]["job"] = "another"
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(RunError, match="recorded requests are not what follows"):
        exposure(copies["secure"], "server")


# ---- what is asked for -------------------------------------------------------------------------


def test_an_observer_is_named_with_the_hospital_it_needs(secure: Truth) -> None:
    for observer in ("peer", "coalition"):
        with pytest.raises(ConfigurationError, match="no hospital 'hospital-9'") as refused:
            exposure(secure.path, observer, "hospital-9")
        assert "hospital-1, hospital-2" in str(refused.value.hint)


def test_the_server_is_played_once_for_all_observers(
    secure: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = []
    original = server.replay

    def counted(recorded: RecordedRun) -> server.ServerReplay:
        played.append(recorded)
        return original(recorded)

    monkeypatch.setattr(server, "replay", counted)
    observers = Run.open(secure.path).observers()
    first = [observers.of(each, NAMES[0]) for each in OBSERVERS]
    assert len(played) == 1
    for observer, seen in zip(OBSERVERS, first, strict=True):
        assert same(seen, exposure(secure.path, observer, NAMES[0])), (
            "one observer leaks into another"
        )


def test_a_run_that_is_not_finished_or_not_there_is_refused(
    copies: dict[str, Path], tmp_path: Path
) -> None:
    (copies["plain"] / "model.safetensors").unlink()
    with pytest.raises(RunError, match="no released model") as refused:
        exposure(copies["plain"], "server")
    assert "--resume" in str(refused.value.hint)
    with pytest.raises(RunError, match="holds no run"):
        exposure(tmp_path, "server")
    (copies["secure"] / "run.json").write_text("{}")
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        exposure(copies["secure"], "server")


def test_an_unrecorded_run_has_a_released_model_and_nothing_else(
    tmp_path: Path, patients: FederatedData
) -> None:
    wanted = settings(exposures={"record": False}, federation={"rounds": 1})
    truth = run(wanted, tmp_path / "run", patients)
    assert not list(truth.path.glob("hospitals/*/contributions"))
    assert exposure(truth.path, "outsider").rounds == ()
    with pytest.raises(RunError, match="cannot read the recorded"):
        exposure(truth.path, "server")
