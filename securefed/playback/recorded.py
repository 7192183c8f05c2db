"""A recorded run: its public half, and the notes on what could not be had of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from securefed.errors import RunError
from securefed.model.sharing import Vector, flatten
from securefed.record import model_file
from securefed.record.jobs import Job
from securefed.wire.contribution import Layout
from securefed.wire.description import JobDescription, layout_of
from securefed.wire.messages import Request, vector_from_bytes
from securefed.wire.plan import Step


@dataclass
class Notes:
    """Rounds by the reason why they are missing, or less than they could be."""

    rounds: dict[str, list[int]] = field(default_factory=dict)

    def add(self, why: str, number: int) -> None:
        self.rounds.setdefault(why, []).append(number)

    def text(self) -> str:
        """One line: "round 3: aborted; rounds 7 to 9: ..."; "" if there is nothing to say."""
        return "; ".join(f"{_spans(rounds)}: {why}" for why, rounds in self.rounds.items())


def _spans(rounds: list[int]) -> str:
    spans: list[list[int]] = []
    for number in sorted(set(rounds)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in spans]
    return f"round{'s' if len(set(rounds)) > 1 else ''} {', '.join(texts)}"


@dataclass(frozen=True)
class RecordedRun:
    """The public half of a run: its description, and where the messages are.

    Attributes:
        folders: of the hospitals whose own records are here.
        alone: the hospital whose messages are the only ones that were recorded, at itself; None
            where all are there, at the server or in one process.
    """

    path: Path
    job: JobDescription
    folders: Mapping[str, Path]
    alone: str | None = None

    @property
    def folder(self) -> Path:
        """Where the messages are."""
        return self.path / "exposures"

    def own(self, name: str) -> Path:
        """The folder of a hospital.

        Raises:
            RunError: it is elsewhere.
        """
        if name not in self.folders:
            raise RunError(
                f"what {name} kept is not in {self.path}", hint=f"{name} has it in its own folder"
            )
        return self.folders[name]

    def require_all(self) -> None:
        """RunError unless everybody's messages were recorded here."""
        if self.alone:
            raise RunError(
                f"{self.path} holds the messages of {self.alone} alone, not what the server saw",
                hint="the server's folder has them",
            )

    def layout(self, start: Job) -> Layout:
        """How contributions of one start of the run are encoded."""
        return layout_of(self.job.settings, self.job.parameters, start.noise)

    def step(self, number: int) -> Step:
        """What was asked under a number; the plan is public.

        Raises:
            RunError: the plan has no such step.
        """
        step = self.job.plan.step(number)
        if step is None:
            raise RunError(
                f"step {number} is recorded, and the run's plan has none",
                hint="was it recorded by another version?",
            )
        return step

    def shared(self, request: Request) -> Vector:
        """The shared parameters that a recorded request sends, (P,).

        Raises:
            RunError: another number of them, or not finite.
        """
        shared, expected = vector_from_bytes(request.shared), self.job.parameters
        if shared.shape != (expected,) or not np.isfinite(shared).all():
            raise RunError(
                f"round {request.round} sends {shared.size} parameters, {expected} finite ones "
                "are expected",
                hint="the recording in exposures/ is damaged; make the run again",
            )
        return shared

    def released(self) -> Vector:
        """Shared parameters of the released model, (P,).

        Raises:
            RunError: it is missing, damaged, or of another shape than the run's.
        """
        tensors, names = model_file.read(self.path), self.job.shared_names
        missing = [name for name in names if name not in tensors]
        if missing:
            raise RunError(f"{self.path / model_file.NAME} has no parameter {missing[0]}")
        released = flatten(tensors, names)
        if released.shape != (self.job.parameters,):
            raise RunError(
                f"{self.path / model_file.NAME} holds {released.size} shared parameters, not "
                f"{self.job.parameters}"
            )
        return released
