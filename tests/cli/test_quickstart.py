"""The quick start's commands from a run to a model card, as they stand there, on a smaller run."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "quickstart.md"


def commands() -> list[list[str]]:
    """The words of each command in the section's block."""
    section = PAGE.read_text().split("## From a run to a model card")[1]
    block = section.split("```sh\n")[1].split("```")[0]
    return [shlex.split(line) for line in block.splitlines()]


def test_six_commands_lead_from_a_clone_to_a_model_card(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path / "home")}
    written = commands()
    assert [words[1] for words in written] == ["run", "data", "predict", "explain", "evaluate"]
    for program, *words in written:
        assert program == "securefed"
        smaller = ["--config", str(ROOT / "configs" / "smoke.yaml")] if words[0] == "run" else []
        done = subprocess.run(
            [sys.executable, "-m", "securefed", *words, *smaller],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "predictions.csv").open() as table:
        predicted = list(csv.DictReader(table))
    assert len(predicted) == 100
    assert "phantom-9-1-00000" in (tmp_path / "look" / "index.html").read_text()
    assert "<svg" in (tmp_path / "evaluated" / "evaluation.html").read_text()
    card = (tmp_path / "runs" / "first" / "model-card.md").read_text()
    assert "Do not use on patients" in card
    assert re.search(r"Evaluation on 100 patients.*AUC 0\.\d{3} \(", card)
    assert "epsilon 8.000" in card
    assert "phantom-9" not in card
