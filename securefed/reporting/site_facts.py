"""report.json of a hospital's own part of a run: what its officer answers for.

The types of everything that the page of a site says: what was agreed and under which policy, every
message that left, what it cost its patients, and what the hospital's own audit found. It is made
from the hospital's folder alone and signed as any report. Sizes are bytes, times UTC.
"""

from typing import Any, ClassVar, Literal

import msgspec

from securefed.record.egress import Departure
from securefed.record.inventory import InputFile
from securefed.record.json_file import SCHEMA, JsonFile, Schema
from securefed.record.mismatch import Mismatch
from securefed.record.summary import HospitalSummary
from securefed.reporting.attack_facts import Audit
from securefed.reporting.facts import Answer, Egress, Setting, Sight, Term, Uncovered, schema_of


class AgreementFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was agreed: `digest` is the SHA-256 of agreement.yaml, `key` this hospital's in it."""

    name: str
    digest: str
    hospitals: tuple[str, ...]
    key: str
    terms: list[Setting]


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One time that the hospital joined the run; `outcome` in words.

    `spent_before` and `spent_after`: epsilon of its ledger over all runs when it joined and when it
    left; null where nothing is claimed, and after a job that was killed. `policy`: its place in the
    list of policies.
    """

    number: int
    joined: str
    ended: str | None
    outcome: str
    finished_before: int
    spent_before: float | None
    spent_after: float | None
    policy: int


class Spending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a hospital's patients have spent: the most of any of them, over all runs, by its ledger.

    `before` is when this run was joined first, `after` when it was left last, `now` when the report
    was made, later runs included; all are null with seeded noise, of which nothing is claimed.
    `limit` is on all runs together. `sentence` says `now` with all that it means nothing without,
    `of_run` what this run promises those who trained in it, `evaluation` the held-out ones.
    """

    before: float | None
    after: float | None
    now: float | None
    limit: float | None
    delta: float
    unit: str
    accountant: str
    noise: str
    sentence: str
    of_run: str
    evaluation: str


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message that left; `round` and `what` are what the run's plan says of its step."""

    round: int | None
    what: str
    left: Departure


class SiteReport(JsonFile, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root of report.json, of a hospital's part of a run.

    `title` is the site's folder; `place` is the run's, from the folder that the site's lies in,
    where commands are typed. `label_of`: what has a label, a patient, a study or a slice. `results`
    are the hospital's own numbers, where they were asked for.
    """

    NAME: ClassVar[str] = "report.json"
    schema: Schema = SCHEMA

    kind: Literal["site"] = "site"
    title: str
    place: str
    made: str
    securefed: str
    hospital: str
    run: str
    state: str
    configuration: str
    verdict: Answer
    verdict_words: str
    evidence: tuple[Mismatch, ...]
    simulation: str | None
    label_of: str
    banners: list[str]
    agreement: AgreementFacts
    jobs: list[Job]
    policies: list[list[Setting]]
    spending: Spending | None
    egress: Egress
    first: str | None
    last: str | None
    refusals: int
    messages: list[Message]
    beside: str
    sights: list[Sight]
    outside_epsilon: list[Uncovered]
    hidden: str | None
    results: HospitalSummary | None
    audit: Audit | None
    settings: list[Setting]
    environment: list[Setting]
    warnings: tuple[str, ...]
    limits: list[str]
    glossary: list[Term]
    inputs: list[InputFile]

    @property
    def parts(self) -> "list[SiteReport]":
        """What a verdict is of."""
        return [self]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a site's report.json."""
    return schema_of(SiteReport, "SecureFed report of a hospital's part of a run, schema 1")
