"""What `securefed run` refuses of its patients: in two lines, and no ledger is left behind."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from securefed.cli.app import cli
from securefed.data.images import write_png
from securefed.errors import SecureFedError


def data_set(folder: Path, rows: list[tuple[str, int, str, int | None]]) -> Path:
    """A manifest of (patient, label, site, picture); no picture: the file is missing."""
    folder.mkdir()
    lines = ["patient_id,label,site,ct"]
    for number, (patient, label, site, picture) in enumerate(rows):
        if picture is not None:
            coarse = np.random.default_rng(picture).integers(20, 235, (4, 4))
            write_png(folder / f"{number}.png", np.kron(coarse, np.ones((4, 4))).astype(np.uint8))
        lines.append(f"{patient},{label},{site},{number}.png")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def people(count: int = 24) -> list[tuple[str, int, str, int | None]]:
    return [(f"P{k}", k % 2, "north", k) for k in range(count)]


@pytest.mark.parametrize(
    ("rows", "told", "hint"),
    [
        ([*people(), ("X", 1, "north", 3)], "'P3' and 'X' show identical", "allow_duplicates"),
        ([*people(), ("p 3", 1, "north", 99)], "'P3' and 'p 3' are alike", "allow_duplicates"),
        ([(p, 1, s, k) for p, _, s, k in people()], "have label 1: nothing can be", "other label"),
        (
            [(p, n, s, k if k and k < 6 else None) for p, n, s, k in people(16)],
            "11 of 16 rows cannot be used",
            "data check",
        ),
        (
            [(p, n, "../up" if k else s, k) for p, n, s, k in people(16)],
            "15 of 16 rows cannot be used: manifest.csv, line 3: site '../up'",
            "data check",
        ),
        ([("nan", n, s, k) for _, n, s, k in people(16)], "'nan' stands for no patient", "check"),
    ],
)
def test_unfit_patients_are_refused_before_anything_is_made(
    tmp_path: Path, rows: list[tuple[str, int, str, int | None]], told: str, hint: str
) -> None:
    data, out = data_set(tmp_path / "data", rows), tmp_path / "run"
    arguments = ["--data", str(data), "--clients", "3", "--out", str(out)]
    result = CliRunner().invoke(cli, ["run", *arguments])
    assert isinstance(result.exception, SecureFedError), result.output
    assert told in str(result.exception)
    assert hint in str(result.exception.hint)
    assert "\n" not in str(result.exception)
    assert [path.name for path in tmp_path.rglob("*ledger*")] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
