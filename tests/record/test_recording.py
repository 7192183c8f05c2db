"""What observers saw: every recorded byte comes back, and a damaged record is refused by name."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefed.errors import RunError
from securefed.record.recording import (
    BYTES,
    INDEX,
    Direction,
    Recording,
    Sighting,
    content,
    sightings,
)

Entry = tuple[int, str, str, Direction, bytes]

_entries = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.sampled_from(["advertise", "share", "work", "confirm", "unmask"]),
        st.sampled_from(["hospital-1", "hospital-2"]),
        st.sampled_from(["down", "up"]),
        st.binary(max_size=40),
    ),
    max_size=8,
)


def _read(folder: Path) -> list[Entry]:
    return [
        (seen.round, seen.stage, seen.client, seen.direction, content(folder, seen))
        for seen in sightings(folder)
    ]


@given(stages=st.lists(_entries, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_every_message_comes_back_in_order_with_its_place(
    stages: list[list[Entry]], tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("run") / "exposures"
    recording = Recording(folder, limit=10_000)
    for messages in stages:
        recording.add(messages)
    assert _read(folder) == [entry for messages in stages for entry in messages]
    assert (folder / BYTES).stat().st_size == sum(len(e[-1]) for m in stages for e in m)


def _entry(data: bytes, round_number: int = 1) -> Entry:
    return (round_number, "work", "hospital-1", "up", data)


def test_a_resumed_run_appends(tmp_path: Path):
    Recording(tmp_path, 100).add([_entry(b"first")])
    Recording(tmp_path, 100).add([_entry(b"second", 2)])
    assert _read(tmp_path) == [_entry(b"first"), _entry(b"second", 2)]


def test_a_line_that_a_crash_cut_short_counts_as_not_written(tmp_path: Path):
    Recording(tmp_path, 100).add([_entry(b"first"), _entry(b"second", 2)])
    index = tmp_path / INDEX
    index.write_bytes(index.read_bytes()[:-9])
    assert _read(tmp_path) == [_entry(b"first")]
    again = Recording(tmp_path, 100)
    assert again.messages == 1
    again.add([_entry(b"third", 2)])
    assert again.messages == 2
    assert _read(tmp_path) == [_entry(b"first"), _entry(b"third", 2)]


def test_a_recording_is_readable_by_its_owner_only(tmp_path: Path):
    Recording(tmp_path / "exposures", 100).add([_entry(b"first")])
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "exposures").iterdir()}
    assert modes == {INDEX: 0o600, BYTES: 0o600}


def test_beyond_the_limit_only_sizes_are_kept_over_resumption_too(tmp_path: Path):
    Recording(tmp_path, 10).add([_entry(b"12345678")])
    Recording(tmp_path, 10).add([_entry(b"abc", 2), _entry(b"de", 3)])
    kept = list(sightings(tmp_path))
    assert [(seen.offset, seen.size) for seen in kept] == [(0, 8), (None, 3), (8, 2)]
    assert (tmp_path / BYTES).stat().st_size == 10
    assert content(tmp_path, kept[2]) == b"de"
    with pytest.raises(RunError, match="round 2 work of hospital-1 was not kept") as refused:
        content(tmp_path, kept[1])
    assert "exposures.limit_mb" in str(refused.value.hint)


def test_a_run_without_recording_says_so(tmp_path: Path):
    with pytest.raises(RunError, match="cannot read the recorded messages") as refused:
        list(sightings(tmp_path))
    assert "exposures.record" in str(refused.value.hint)


GOOD = {
    "round": 1,
    "stage": "work",
    "client": "a",
    "direction": "up",
    "offset": 0,
    "size": 3,
}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1, 2]",
        "3",
        json.dumps({key: value for key, value in GOOD.items() if key != "size"}),
        json.dumps({**GOOD, "more": 1}),
        json.dumps({**GOOD, "offset": "0"}),
        json.dumps({**GOOD, "offset": -1}),
        json.dumps({**GOOD, "size": -1}),
        json.dumps({**GOOD, "size": None}),
        json.dumps({**GOOD, "direction": "sideways"}),
        "\udcff",
    ],
)
def test_a_damaged_index_is_refused(line: str, tmp_path: Path):
    text = json.dumps(GOOD) + "\n" + line + "\n"
    (tmp_path / INDEX).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match="cannot read the recorded messages"):
        list(sightings(tmp_path))


def test_bytes_that_are_missing_are_refused(tmp_path: Path):
    seen = Sighting(3, "work", "a", "up", offset=2, size=4)
    with pytest.raises(RunError, match="round 3 work"):
        content(tmp_path, seen)  # no file at all
    (tmp_path / BYTES).write_bytes(b"12345")
    with pytest.raises(RunError, match="ends before round 3 work"):
        content(tmp_path, seen)
    (tmp_path / BYTES).write_bytes(b"123456")
    assert content(tmp_path, seen) == b"3456"
