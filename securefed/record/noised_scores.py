"""scores.json: the one answer about its held-out patients that a hospital gives in a run, noised.

Noise that is drawn again averages out, so the answer to the same question is the same, and there is
none to another. The file holds a share of noise where others' shares count too: it is as private as
the patients, readable by its owner only.
"""

from pathlib import Path
from typing import ClassVar

import msgspec

from securefed.files import create_private
from securefed.record.json_file import SCHEMA, JsonFile, Schema


class NoisedAnswer(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """What was asked and answered.

    Attributes:
        run: whose it is.
        question: digest of the parameters (wire.openings).
        steps: noised counts, in steps of privacy.counts.
        ABOUT: what it is about, in words.
    """

    NAME: ClassVar[str] = "scores.json"
    ABOUT: ClassVar[str] = "scores"
    schema: Schema = SCHEMA

    run: str
    question: str
    steps: tuple[int, ...]

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all, for its owner only."""
        partial = folder / f"{self.NAME}.partial"
        partial.unlink(missing_ok=True)  # of a crash
        create_private(partial, self.encode())
        partial.replace(folder / self.NAME)


class FirstScanSum(NoisedAnswer, frozen=True, kw_only=True):
    """scans_first.json: the first sum over a hospital's training patients' scans."""

    NAME: ClassVar[str] = "scans_first.json"
    ABOUT: ClassVar[str] = "scans"


class SecondScanSum(NoisedAnswer, frozen=True, kw_only=True):
    """scans_second.json: the second, of distances from means that everybody was told."""

    NAME: ClassVar[str] = "scans_second.json"
    ABOUT: ClassVar[str] = "distances of scans"


#: By the number of the sum.
SCAN_SUMS: dict[int, type[NoisedAnswer]] = {1: FirstScanSum, 2: SecondScanSum}


class SurveyAnswer(NoisedAnswer, frozen=True, kw_only=True):
    """survey_answer.json: the same of all patients of a hospital, in a survey."""

    NAME: ClassVar[str] = "survey_answer.json"
    ABOUT: ClassVar[str] = "survey"
