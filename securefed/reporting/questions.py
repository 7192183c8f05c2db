"""Questions of regulators and standards, answered with figures of the report or not at all.

questions.yaml holds the questions and which figures speak to each; nothing here knows any law. An
answer is always a figure and a JSON pointer to it. No answer is ever a conclusion: whether the
figures are good enough is for people with that office to say.
"""

from importlib import resources
from typing import Annotated, Any

import msgspec
import yaml

from securefed.reporting.facts import Evidence, Question, RunFacts
from securefed.reporting.words import number

Text = Annotated[str, msgspec.Meta(min_length=1)]


class PointerPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pointer: Annotated[str, msgspec.Meta(pattern=r"^(/[a-z0-9_]+)+$")]
    says: Text


class QuestionPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: Text
    place: Text
    question: Text
    evidence: list[PointerPart]
    unanswered: Text
    section: Text


class QuestionsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    questions: list[QuestionPart]


def load_questions() -> list[QuestionPart]:
    """The shipped questions, checked for their form."""
    source = resources.files("securefed.reporting") / "questions.yaml"
    return msgspec.convert(yaml.safe_load(source.read_bytes()), QuestionsFile).questions


def answers(runs: list[RunFacts]) -> list[Question]:
    """Every question with what the runs have to say to it."""
    plain = [msgspec.to_builtins(run) for run in runs]
    return [
        Question(
            source=part.source,
            place=part.place,
            question=part.question,
            evidence=[
                found
                for i, run in enumerate(plain)
                for pointer in part.evidence
                if (found := _evidence(run, i, pointer))
            ],
            unanswered=part.unanswered,
            section=part.section,
        )
        for part in load_questions()
    ]


def _evidence(run: dict[str, Any], position: int, part: PointerPart) -> Evidence | None:
    value = resolve(run, part.pointer)
    if value is None or value in ("", "NOT AUDITED"):
        return None
    return Evidence(
        run=run["folder"] or run["configuration"],
        says=f"{part.says}: {_text(value)}",
        pointer=f"/runs/{position}{part.pointer}",
    )


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


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else str(value)
