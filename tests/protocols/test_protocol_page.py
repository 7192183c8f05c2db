"""docs/protocol.md cannot drift: every message kind, field and size on it is checked."""

import json
from pathlib import Path

import msgspec
import pytest

from protocols import messages as m
from protocols.parameters import JobRules
from protocols.shamir import PRIME, SHARE_BYTES
from protocols.transcript import PROTOCOL
from tests.protocols.rounds_driver import Federation, names, random_vectors

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = (DOCS / "protocol.md").read_text()
KINDS = [
    kind for kind in vars(m).values() if isinstance(kind, type) and issubclass(kind, m.Message)
]


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not m.Message], ids=lambda k: k.__name__)
def test_every_field_of_every_message_is_described(kind):
    start = PAGE.index(f"`{kind.__struct_config__.tag}`")
    section = PAGE[start : start + 1100]
    for field in msgspec.structs.fields(kind):
        assert f"`{field.name}`" in section, field.name


def test_the_sizes_on_the_page_are_the_sizes_on_the_wire():
    job = Federation(JobRules("job", 1000), names(16))
    vectors = random_vectors(job.members, 1000)
    first = job.run(job.server(1), vectors, last="share")
    following = job.server(2)
    first.pipeline(following)
    job.run(first, vectors, first="mask")
    job.run(following, vectors, first="mask")
    size = {
        (number, step, direction): len(data)
        for number, step, direction, name, data in job.log
        if name == job.members[0]
    }
    said = {
        (1, "advertise", "to"): "`announce` (26 bytes)",
        (1, "advertise", "from"): "`advert` (1,399 bytes)",
        (1, "share", "to"): "`ask share` (20,998 bytes)",
        (1, "share", "from"): "`shares` (19,226 bytes)",
        (1, "mask", "to"): "`ask mask` (19,253 bytes)",
        (1, "confirm", "to"): "`ask confirm` (18 bytes)",
        (1, "confirm", "from"): "`confirm` (77 bytes)",
        (2, "unmask", "to"): "`ask unmask` (1,178 bytes; 22,175 with",
        (2, "unmask", "from"): "`open` (701 bytes; 19,926 with",
    }
    page = " ".join(PAGE.split())
    for key, words in said.items():
        assert words in page
        assert f"({size[key]:,} bytes" in words
    assert (size[1, "unmask", "to"], size[1, "unmask", "from"]) == (22175, 19926)
    assert (size[2, "mask", "from"], size[1, "mask", "from"]) == (4532, 5932)
    assert "plus 532 bytes, or 1,932 with an advert" in page


def test_the_constants_on_the_page_are_the_codes():
    assert f"`{PROTOCOL.decode()}`" in PAGE
    assert PRIME == 2**256 + 297
    assert "2^256 + 297" in PAGE
    assert f"in {SHARE_BYTES} bytes" in PAGE
    assert f"`sealed` ({m.BOX_BYTES} bytes)" in PAGE
    assert f"`version` = {m.VERSION}" in PAGE


def test_the_speeds_on_the_page_are_those_measured():
    measured = json.loads((DOCS / "measured" / "secure_aggregation.json").read_text())
    cases = {case["case"]: case for case in measured["cases"]}
    mask = cases["client mask, 1e+07 parameters, 16 neighbours"]
    unmask = cases["server unmask, 1 dropped, 1e+07 parameters, 16 neighbours"]
    for case in (mask, unmask):
        ours, peer = case["ours"] * 1000, case["peers"]["flwr"] * 1000
        assert f"{ours:.1f} / {peer:.0f} ms, {case['times_better']['flwr']:.1f}" in PAGE
        assert case["times_better"]["flwr"] >= 8
    assert f"{mask['ours'] / (1e7 * 16) * 1e9:.2f} ns per parameter and pair" in PAGE
    size = cases["bytes of a masked vector for each parameter, 1e+07 parameters, 16 neighbours"]
    assert f"takes {size['ours']:.5f} bytes" in PAGE
