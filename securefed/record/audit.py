"""audit.json: what an audit found, under which controls, and the policy's verdict.

Flat lists with the observer in each line, so that a table is one list. A figure that does not exist
is null, never NaN: JSON has no such number.
"""

import hashlib
import math
from pathlib import PurePosixPath
from typing import Any, ClassVar

import msgspec

from securefed.config import Configuration
from securefed.record.json_file import SCHEMA, JsonFile, Schema
from securefed.record.mismatch import Mismatch
from securefed.verdict import Verdict

PICTURES = (".png", ".svg")
Limits = tuple[float | None, float | None]  # lower, upper; None where the interval is open
CHECKED = "malicious server"  # the family whose attempts are `checks`
SURPRISE = "surprise"  # the metric of tests of what the run claims
EPSILON = "epsilon"  # the metric of lower bounds on epsilon, against the claim


MORE_EFFORT = {"quick": "", "default": "--thorough"}  # effort -> option for the next larger one


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a figure may be; None: reported, not judged."""

    attack: str
    metric: str
    scene: str
    at_most: float | None
    required: bool


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Where a control must lie: one of the three is given, `holds` within its interval."""

    attack: str
    control: str
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    holds: float | None = None

    def __str__(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return f"interval holds {self.holds:g}"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The policy that judged, with all of it that decides; the reasons are in the file it is from.

    Attributes:
        sha256: of the policy as it was read, reasons and all.
        primary: family -> the method named in advance.
        minimum_power: family -> what its bound needs to count.
    """

    name: str
    set_by: str
    confidence: float
    sha256: str
    primary: dict[str, str] = {}
    minimum_power: dict[str, float] = {}
    thresholds: tuple[Threshold, ...] = ()
    gates: tuple[Gate, ...] = ()


class Exposed(msgspec.Struct, frozen=True, kw_only=True):
    """What an observer had to work with."""

    observer: str
    members: tuple[str, ...]
    rounds: int
    sees_updates: bool
    sees_means: bool
    missing: str


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the verdict.

    Attributes:
        attack: the family.
        observer: None where nobody attacked.
        method: the attack within its family; of a malicious server, what it tried.
        metric: of leakage, larger is worse; named as in the policy; "" where nothing is measured.
        scene: "as configured", "worst case", or "" where there is only one.
        verdict: None where the figure is reported and not judged.
        reason: in words, with the figures that decided.
        adjusted_p: Holm's p-value against the threshold, for an attack that is not the primary.
        decides: False for what stands behind another line.
        remedy: of an INCONCLUSIVE line, what would settle it, in words; else "".
    """

    attack: str
    observer: str | None
    method: str = ""
    metric: str = ""
    scene: str = ""
    verdict: Verdict | None
    reason: str
    value: float | None = None
    interval: Limits | None = None
    threshold: float | None = None
    adjusted_p: float | None = None
    decides: bool = True
    remedy: str = ""

    @property
    def of_epsilon(self) -> bool:
        """Whether `value` is a lower bound on epsilon, and `threshold` the claimed upper one."""
        return self.metric == EPSILON

    @property
    def of_claim(self) -> bool:
        """Whether what the run says of itself was tested, and not what leaks."""
        return self.metric in (EPSILON, SURPRISE)

    @property
    def share_of_threshold(self) -> float:
        """How far the figure has gone towards its threshold, 1 there; comparable across metrics."""
        if self.value is None or self.threshold is None:
            return -math.inf
        if not self.threshold:
            return math.inf if self.value > 0 else 0.0
        return self.value / self.threshold

    @property
    def title(self) -> str:
        """Method and metric, in words."""
        return ", ".join(part for part in (self.method, self.metric) if part)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one attack found, by one observer, in one scene; or in `absent` why it did not.

    Attributes:
        applies: False where the observer saw nothing that this attack could start from.
    """

    attack: str
    method: str
    metric: str
    observer: str
    scene: str
    value: float | None
    interval: Limits | None
    absent: str | None
    applies: bool = True


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """A control, where an attack must succeed or must fail, and whether it did."""

    attack: str
    control: str
    kind: str
    metric: str
    value: float | None
    interval: Limits | None
    gate: str
    met: bool
    reason: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a malicious server tried on a client; `expected`: a sound client refuses it."""

    name: str
    refused: bool
    expected: bool
    detail: str


class EpsilonTest(msgspec.Struct, frozen=True, kw_only=True):
    """One observer's canary audit: `certified` is a lower bound, `point_estimate` is none."""

    observer: str
    canaries: int
    guesses: int
    method: str
    significance: float
    delta: float
    correct: int
    certified: float
    one_run_bound: float | None
    f_dp_bound: float | None
    point_estimate: float | None
    visible_epsilon: float | None
    largest_bound: float | None
    claimed_epsilon: float | None
    power_halved_noise: float | None


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of a patient's scan, by its path below the run directory."""

    file: str
    caption: str

    def __post_init__(self) -> None:
        _require_picture(self.file)


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A drawn figure, by its path below the run directory."""

    file: str
    title: str

    def __post_init__(self) -> None:
        _require_picture(self.file)


def _require_picture(file: str) -> None:
    # Pages embed these files: none from outside the audit's own folder.
    place = PurePosixPath(file)
    if place.parts[:1] != ("audit",) or ".." in place.parts or place.suffix not in PICTURES:
        raise ValueError(f"it names {file!r}, which is no picture of this audit")


class AuditFile(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """The content of audit.json.

    Attributes:
        run: identity of the run that was audited.
        interrupted: Ctrl-C ended it; what was finished is judged.
        asked: families that it was to run, where that was not all: the verdict is on them alone.
        evidence: where the run's files contradict each other; then nothing was attacked, and the
            verdict is FAIL.
        details: family -> observer -> what was attacked, how often, with what caveats.
        sha256: of all the rest, as it was written: an edit of one figure shows.
    """

    NAME: ClassVar[str] = "audit.json"
    schema: Schema = SCHEMA

    run: str
    configuration: Configuration
    effort: str
    seed: int
    interrupted: bool = False
    asked: tuple[str, ...] = ()
    policy: Policy
    verdict: Verdict
    evidence: tuple[Mismatch, ...] = ()
    exposures: tuple[Exposed, ...] = ()
    judgements: tuple[Judgement, ...]
    findings: tuple[Finding, ...]
    controls: tuple[Control, ...]
    epsilon: tuple[EpsilonTest, ...] = ()
    checks: tuple[Check, ...] = ()
    details: dict[str, Any] = {}
    pictures: tuple[Picture, ...] = ()
    curves: tuple[Curve, ...] = ()
    seconds: float | None = None
    sha256: str = ""

    def encode(self) -> bytes:
        """The file's content, with its digest."""
        return super(AuditFile, self.sealed()).encode()

    def sealed(self) -> "AuditFile":
        """The same with its digest, as it is written and read."""
        return msgspec.structs.replace(self, sha256=self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of the content without `sha256`, hexadecimal."""
        rest = msgspec.structs.replace(self, sha256="")
        return hashlib.sha256(msgspec.json.encode(rest, order="sorted")).hexdigest()

    @property
    def of_the_run(self) -> Verdict:
        """The verdict for who reads no further: a part that passes leaves the rest open."""
        part = self.asked and self.verdict is Verdict.PASS
        return Verdict.INCONCLUSIVE if part else self.verdict

    @property
    def families(self) -> tuple[str, ...]:
        """The families that it speaks of, in the order of its lines."""
        attacks = [finding.attack for finding in self.findings]
        return tuple(dict.fromkeys(attacks + [line.attack for line in self.judgements]))
