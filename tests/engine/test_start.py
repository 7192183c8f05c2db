"""What a federation's programs load before they work: each start of a job is a start of everybody.

A hospital's job takes its seconds for torch and for Opacus, which price what it trains; nothing
else that is slow has a part in it. The commands that people type only watch.
"""

from pathlib import Path

import pytest

from tests.engine.four_sites import make_four
from tests.loaded import SLOW, loaded

ROOMS = {"attacks", "securefed.server", "securefed.simulation", "securefed.reporting"}


@pytest.mark.parametrize(
    "module",
    ["securefed.hospital.site", "securefed.server.folder", "securefed.engine.flare.places"],
)
def test_a_command_that_waits_loads_no_torch(module: str) -> None:
    assert loaded(f"import {module}", {"torch", "scipy", "opacus", "rich", *SLOW}) == "[]"


def test_a_hospital_that_is_ready_has_loaded_only_what_trains(tmp_path: Path) -> None:
    four = make_four(tmp_path, tmp_path / "patients")
    program = f"""
from pathlib import Path
from securefed.hospital.member import Member
from securefed.hospital.site import open_site
from securefed.wire import hello

member = Member(open_site(Path({str(four.sites["west"].folder)!r})))
asked = hello.encode_hello(hello.Hello({four.agreement.digest!r}, 1, 0))
while (state := hello.decode_presence(member.handle(asked)).state) == "opening":
    pass
assert state == "ready", state
member.close()
"""
    assert loaded(program, {"rich"} | SLOW | ROOMS) == "[]"
