"""Questions of regulators and standards, answered with figures of the report or not at all.

questions.yaml holds the questions and which figures speak to each; nothing here knows any law. An
answer is always a figure and a JSON pointer to it. No answer is ever a conclusion: whether the
figures are good enough is for people with that office to say.
"""

from importlib import resources
from typing import Annotated, Any, Literal

import msgspec

from securefed import settings_file
from securefed.privacy.accounting import at_most
from securefed.reporting.facts import Evidence, Question, RunFacts
from securefed.reporting.words import number

Text = Annotated[str, msgspec.Meta(min_length=1)]


class EvidencePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a figure stands: at a pointer into the run, or in the summary of an attack family."""

    says: Text
    pointer: Annotated[str, msgspec.Meta(pattern=r"^(/[a-z0-9_]+)+$")] | None = None
    family: Text | None = None

    def __post_init__(self) -> None:
        if (self.pointer is None) == (self.family is None):
            raise ValueError("evidence has either a pointer or a family")


class QuestionPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: Text
    place: Text
    question: Text
    evidence: list[EvidencePart]
    unanswered: Text
    section: Text


class QuestionsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: Literal[1]
    questions: list[QuestionPart]


def load_questions() -> list[QuestionPart]:
    """The shipped questions, checked for their form."""
    source = resources.files("securefed.reporting") / "questions.yaml"
    return msgspec.convert(settings_file.read(source, "questions"), QuestionsFile).questions


def answers(runs: list[RunFacts]) -> list[Question]:
    """Every question with what the runs have to say to it."""
    plain = [msgspec.to_builtins(run) for run in runs]
    return [
        Question(
            source=part.source,
            place=part.place,
            question=part.question,
            evidence=[
                evidence
                for position, run in enumerate(plain)
                for pointer in part.evidence
                if (evidence := _evidence(run, position, pointer))
            ],
            unanswered=part.unanswered,
            section=part.section,
        )
        for part in load_questions()
    ]


def _evidence(run: dict[str, Any], position: int, part: EvidencePart) -> Evidence | None:
    pointer = part.pointer or _family(run, part.family)
    value = resolve(run, pointer)
    if value is None or value in ("", "NOT AUDITED"):
        return None
    return Evidence(
        run=run["title"],
        says=f"{part.says}: {_text(pointer, value)}",
        pointer=f"/runs/{position}{pointer}",
    )


def _family(run: dict[str, Any], name: str | None) -> str:
    """The pointer to a family's summary; to nothing where the audit does not speak of it."""
    attacks = [family["attack"] for family in run["audit"]["families"]] if run["audit"] else []
    place = attacks.index(name) if name in attacks else len(attacks)
    return f"/audit/families/{place}/summary"


def resolve(document: Any, pointer: str) -> Any:
    """The value a JSON pointer leads to, or None where it leads nowhere.

    Reference: RFC 6901, without escapes, which no key here needs.
    """
    for step in pointer.split("/")[1:]:
        if isinstance(document, list):
            document = document[int(step)] if step.isdigit() and int(step) < len(document) else None
        elif isinstance(document, dict):
            document = document.get(step)
        else:
            return None
    return document


def _text(pointer: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    is_epsilon = pointer.rsplit("/", 1)[-1].startswith("epsilon")
    return at_most(value) if is_epsilon else number(value)
