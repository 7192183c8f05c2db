"""The federation page's figures are those that were measured."""

import json
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_seconds_of_a_stage_are_those_measured() -> None:
    page = (DOCS / "federation.md").read_text()
    found = json.loads((DOCS / "measured" / "deployment.json").read_text())
    assert f"{found['parameters']:,} shared parameters" in page
    for stage, each in found["stages"].items():
        cells = (f"{each[key]:.3f} s" for key in ("wait", "work", "beyond"))
        assert f"| {stage} | {' | '.join(cells)} |" in page
