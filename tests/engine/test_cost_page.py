"""The federation page's figures are those that were measured."""

import json
from pathlib import Path

STAGES = ("work", "confirm", "unmask")
DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_seconds_of_a_round_are_those_measured() -> None:
    page = (DOCS / "federation.md").read_text()
    found = json.loads((DOCS / "measured" / "deployment.json").read_text())
    for case in found["cases"]:
        beyond = [f"{case['stages'][stage]['beyond']:.3f} s" for stage in STAGES]
        both = f"{case['ours']:.2f} s | {case['peers']['flower']:.1f} s"
        assert f"| {case['words']:,} values | {' | '.join(beyond)} | {both} |" in page


def test_what_is_said_of_the_longer_run_is_what_was_measured() -> None:
    page = (DOCS / "federation.md").read_text()
    found = json.loads((DOCS / "measured" / "soak.json").read_text())
    assert found["rounds_with_a_sum_recorded"] == found["rounds"] == 200
    assert found["rounds_with_a_sum_that_is_not_exact"] == found["rounds_without_a_sum"] == 0
    assert not any(found["reserved_and_not_sent"].values())
    assert (len(found["hits"]), found["jobs"]) == (8, 8)
    assert f"{found['rounds_of_all_hospitals']} of 200 over all five" in page
    most = (found["memory_growth"][kind] for kind in ("hospital", "server"))
    assert (
        "was {:.2f} (hospitals) and {:.2f} times (server) that of the first".format(*most) in page
    )
