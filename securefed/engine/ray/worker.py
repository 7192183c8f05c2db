"""An actor: a part of a run's hospitals, in a process of its own.

Whatever is asked of all hospitals is asked of each part (`simulation.hospitals`). A mistake that
has a name here comes back as its name and words, since exceptions do not all travel.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from protocols.identity import IdentityKey
from securefed import errors
from securefed.config import Settings
from securefed.data.load import HospitalData
from securefed.errors import RunError, SecureFedError
from securefed.record.directory import RunDirectory
from securefed.record.inventory import LOG
from securefed.simulation import lifetime
from securefed.simulation.execution import log_file
from securefed.simulation.hospitals import HospitalsHere, new_identities, open_ledgers
from securefed.simulation.roster import in_one_process
from securefed.wire.description import JobDescription


@dataclass(frozen=True)
class Public:
    """A job description on its way to a worker: what everybody knows of a job.

    Attributes:
        settings: as JSON, read and checked again there.
        keys: public identity keys; none without masks.
        job: its name in the secure sum; None without masks.
    """

    settings: str
    run: str
    hospitals: tuple[str, ...]
    smallest_training_set: int | None
    keys: dict[str, bytes]
    job: str | None

    @classmethod
    def of(cls, job: JobDescription) -> "Public":
        return cls(
            job.settings.model_dump_json(),
            job.run,
            job.hospitals,
            job.smallest_training_set,
            dict(job.roster.keys) if job.roster else {},
            job.rules.job if job.rules else None,
        )

    def description(self) -> JobDescription:
        settings = Settings.model_validate_json(self.settings)
        job = JobDescription(settings, self.run, self.hospitals, self.smallest_training_set)
        return job.with_keys(self.keys, self.job)


@dataclass(frozen=True)
class Refusal:
    """A mistake with a name, on its way back."""

    kind: str
    message: str
    hint: str | None

    def error(self) -> SecureFedError:
        """As it was raised, as far as it is one of ours."""
        kind = getattr(errors, self.kind, RunError)
        known = isinstance(kind, type) and issubclass(kind, SecureFedError)
        return (kind if known else RunError)(self.message, hint=self.hint)


class Worker:
    """A part of the hospitals; one hospital at a time works here."""

    def __init__(self, folder: str, settings: str) -> None:
        self._folder = Path(folder)
        self._settings = Settings.model_validate_json(settings)
        self._identities: dict[str, IdentityKey] = {}
        self._here: HospitalsHere | None = None
        # Results are those of one process, where each hospital computes on one thread.
        torch.set_num_threads(1)
        # Else words about patients would end in Ray's log. Open as long as this process is.
        self._log = log_file(self._folder / LOG)
        self._log.__enter__()
        logging.getLogger().addHandler(logging.NullHandler())

    def process(self) -> int:
        """The process's number."""
        return os.getpid()

    def keys(self, names: Sequence[str]) -> dict[str, bytes]:
        """Public keys of new identities of these hospitals, whose private halves stay here."""
        self._identities = new_identities(self._settings, names)
        return {name: identity.public for name, identity in self._identities.items()}

    def open(
        self, public: Public, patients: Sequence[HospitalData], simulation: str
    ) -> Refusal | None:
        """Open hospitals of a job, whose ledgers are there."""
        try:
            job = in_one_process(public.description())
            directory = RunDirectory(self._folder)
            folders = {each.name: directory.hospital(each.name) for each in patients}
            lasting = lifetime.open_ledger(job.settings, begun=True)
            ledgers = open_ledgers(job.settings, folders, job.run, lasting)
            self._here = HospitalsHere.open(
                job,
                directory,
                patients,
                self._identities,
                _silent,
                ledgers,
                simulation=simulation,
                workers=1,
            )
        except SecureFedError as error:
            return _refusal(error)
        return None

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        """Ask hospitals of this part."""
        return self._part().transport.stage(requests, deadline_s)

    def call(self, method: str, *arguments: Any) -> Any:
        """A method of `HospitalsHere`; a Refusal where it raises an error of ours."""
        try:
            return getattr(self._part(), method)(*arguments)
        except SecureFedError as error:
            return _refusal(error)

    def _part(self) -> HospitalsHere:
        if self._here is None:
            raise RunError(
                "a worker was asked before its hospitals were opened",
                hint="hospitals.log in the run's folder says why they were not",
            )
        return self._here


def _refusal(error: SecureFedError) -> Refusal:
    return Refusal(type(error).__name__, str(error), error.hint)


def _silent(text: str) -> None:
    """Nobody is told how far the opening is."""
