"""A recorded run: its public half, and the notes on what could not be had of it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from securefed.config import Settings
from securefed.errors import RunError
from securefed.model.initial import initial_network
from securefed.model.sharing import flatten, shared_names
from securefed.privacy.ring_code import RingCode
from securefed.record.directory import RunDirectory, read_tensors
from securefed.record.jobs import Job
from securefed.wire.layout import Layout, build_layout
from securefed.wire.messages import Request, Vector, vector_from_bytes
from securefed.wire.plan import Plan


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
    """The public half of a run: settings, names, where the messages are.

    Attributes:
        parameters: P, how many are shared.
    """

    path: Path
    settings: Settings
    hospitals: tuple[str, ...]
    parameters: int

    @classmethod
    def open(cls, path: Path) -> "RecordedRun":
        """The run in a directory; RunError if there is none, or run.json is damaged."""
        about = RunDirectory.open(path).read_json("run.json")
        try:
            return cls(
                path=path,
                settings=Settings.model_validate_json(json.dumps(about["settings"])),
                hospitals=tuple(about["data"]["hospitals"]),
                parameters=int(about["model"]["shared_parameters"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path / 'run.json'} does not describe a run: {type(error).__name__}",
                hint="was it written by another version?",
            ) from None

    @property
    def folder(self) -> Path:
        """Where the messages are."""
        return self.path / "exposures"

    def layout(self, job: Job) -> Layout:
        """How the job's contributions are encoded."""
        ring = None
        if job.noise:
            ring = RingCode(self.parameters, self.settings.privacy.clip_norm, job.noise)
        return build_layout(self.settings, self.parameters, ring)

    def cohort(self, number: int, *, train: bool = True) -> tuple[str, ...]:
        """Who was asked in a round; the plan is public."""
        federation = self.settings.federation
        plan = Plan(
            clients=self.hospitals,
            rounds=federation.rounds,
            clients_per_round=federation.clients_per_round,
            evaluate_every=federation.evaluate_every,
            seed=self.settings.seed,
        )
        return plan.cohort(number) if train else plan.clients

    def shared(self, request: Request) -> Vector:
        """The shared parameters that a recorded request sends, (P,).

        Raises:
            RunError: another number of them, or not finite.
        """
        shared = vector_from_bytes(request.shared)
        if shared.shape != (self.parameters,) or not np.isfinite(shared).all():
            raise RunError(
                f"round {request.round} sends {shared.size} parameters, {self.parameters} finite "
                "ones are expected",
                hint="the recording in exposures/ is damaged; make the run again",
            )
        return shared

    def released(self) -> Vector:
        """Shared parameters of the released model, (P,).

        Raises:
            RunError: it is missing, damaged, or of another shape than the run's.
        """
        path = self.path / "model.safetensors"
        if not path.exists():
            raise RunError(
                f"{self.path} holds no released model (no model.safetensors)",
                hint=f"finish the run: securefed run --resume {self.path}",
            )
        with torch.random.fork_rng(devices=[]):  # building a network seeds torch
            network, _ = initial_network(self.settings)
        tensors = read_tensors(path)
        names = shared_names(network, self.settings.federation.shared)
        missing = [name for name in names if name not in tensors]
        if missing:
            raise RunError(f"{path} has no parameter {missing[0]}")
        released = flatten(tensors, names)
        if released.shape != (self.parameters,):
            raise RunError(f"{path} holds {released.size} shared parameters, not {self.parameters}")
        return released
