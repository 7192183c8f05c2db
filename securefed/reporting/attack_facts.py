"""The part of report.json that is about attacks: audit.json, and what a page says of it."""

import msgspec

from securefed.record.audit import Check, Control, EpsilonTest, Exposed, Finding, Judgement
from securefed.verdict import Verdict


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A picture file below the run directory, with its caption; `patient` if it shows a scan."""

    file: str
    caption: str
    patient: bool


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One attack family in a sentence, for the first look."""

    attack: str
    attacked: bool
    verdict: Verdict | None
    summary: str


class Attempt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that a malicious server tried, on a hospital in the clear and on one with masks.

    `says` is what happened, in words; the name of the error that a hospital refused it with stands
    in the check's own `detail`. A check is null where it makes no sense.
    """

    attempt: str
    clear: Check | None
    masked: Check | None
    says: str

    @property
    def checks(self) -> list[Check]:
        return [check for check in (self.clear, self.masked) if check]


class MeasuredEpsilon(EpsilonTest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test of epsilon with canaries, and in `says` what its figures mean beside each other."""

    says: str


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """audit.json, and the families in a sentence each; lines are as they stand there.

    `more_effort` is the option of `securefed audit` for the next larger effort, "" for the default
    one; null after the largest. `metrics` explains each figure that occurs.
    """

    verdict: Verdict
    effort: str
    more_effort: str | None
    seed: int
    seconds: float | None
    policy: str
    policy_set_by: str
    policy_sha256: str
    confidence: float
    exposures: tuple[Exposed, ...]
    families: list[Family]
    judgements: tuple[Judgement, ...]
    findings: tuple[Finding, ...]
    controls: tuple[Control, ...]
    attempts: list[Attempt]
    epsilon: tuple[MeasuredEpsilon, ...]
    metrics: dict[str, str]
    pictures: list[Picture]
