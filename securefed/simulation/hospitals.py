"""The hospitals of a simulation, as whoever conducts it holds them: what is asked of all of them.

`HospitalsHere` are in this process. An engine may have them elsewhere (engine/ray): it gives the
same by handing each call on to processes that hold a part of them in a `HospitalsHere` of their
own, so that what a hospital does is one code.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from protocols.identity import IdentityKey
from securefed.config import Settings
from securefed.data.load import FederatedData, HospitalData
from securefed.hospital import check_point
from securefed.hospital import results as hospital_results
from securefed.hospital.opening import Hospital, View, open_hospital, run_ledger
from securefed.hospital.tokens import kept_with
from securefed.model.encoding import tokens_of
from securefed.privacy.accounting import Guarantee
from securefed.privacy.ledger import Ledger
from securefed.record import times
from securefed.record.directory import RunDirectory
from securefed.record.times import Times
from securefed.simulation import lifetime
from securefed.simulation.in_process import InProcessTransport
from securefed.simulation.roster import in_one_process
from securefed.training.device import choose_device
from securefed.training.trainer import TrainingSet
from securefed.wire.description import JobDescription
from securefed.wire.transport import Transport

Say = Callable[[str], None]


class Hospitals(Protocol):
    """Some or all hospitals of a run, open for one job."""

    @property
    def transport(self) -> Transport:
        """How they are asked."""
        ...

    def declared(self) -> dict[str, TrainingSet]:
        """What each declares of its training set."""
        ...

    def guarantees(self) -> dict[str, Guarantee]:
        """What the run comes to in each one's ledger, by its accountant; empty without DP."""
        ...

    def evaluations(self) -> dict[str, Guarantee]:
        """What held-out patients have spent; empty where their scores are exact."""
        ...

    def restore(self, finished: int) -> None:
        """Continue after so many rounds.

        Raises:
            RunError, PrivacyError: a check point or a ledger is not of then.
        """
        ...

    def affordable(self, finished: int, rounds: int) -> int:
        """How many of `rounds` more rounds all ledgers have a budget for."""
        ...

    def note_times(self, round_number: int, asked: Iterable[str]) -> None:
        """Have those that were asked in a round write down how long they worked."""
        ...

    def tell_steps(self, stepped: Callable[[str], None]) -> None:
        """Have the name of a hospital told at each of its steps, where that costs nothing."""
        ...

    def write_results(self, local_auc: Mapping[str, float | None]) -> None:
        """Have each write its own results.

        Args:
            local_auc: of models trained alone, where the run had baselines.
        """
        ...


class Gather(Protocol):
    """Opens the hospitals of a run wherever they are to work."""

    def __call__(
        self,
        job: JobDescription,
        directory: RunDirectory,
        data: FederatedData,
        say: Say,
        ledgers: Mapping[str, Ledger],
    ) -> tuple[JobDescription, Hospitals]:
        """The hospitals, and the job with their keys.

        Args:
            ledgers: of the run, which are there already; none without DP.
        """
        ...


@dataclass(frozen=True)
class HospitalsHere:
    """Hospitals of this process."""

    hospitals: dict[str, Hospital]
    transport: InProcessTransport

    @classmethod
    def open(
        cls,
        job: JobDescription,
        directory: RunDirectory,
        patients: Sequence[HospitalData],
        identities: Mapping[str, IdentityKey],
        say: Say,
        ledgers: Mapping[str, Ledger],
        *,
        simulation: str,
        view: View | None = None,
        workers: int | None = None,
    ) -> "HospitalsHere":
        """Open these hospitals of a job.

        Args:
            patients: of those that are opened.
            identities: of theirs; none without masks.
            simulation: what the patients are, if not people with scans of their own.
            view: what they see of their patients, for baselines.
            workers: how many work at a time.
        """
        device, hospitals = choose_device(job.settings.device), {}
        for each in patients:
            say(f"preparing {each.name}, {len(each.train)} patients")
            told = partial(_told_of_encoding, say, each.name)
            encode = kept_with(job.settings, simulation, partial(tokens_of, told=told))
            own, ledger = identities.get(each.name), ledgers.get(each.name)
            folder = directory.hospital(each.name)
            hospital = open_hospital(job, folder, each, own, device, view, ledger, encode=encode)
            hospital.client.worked = partial(check_point.after_work, hospital)
            hospitals[each.name] = hospital
        handlers = {name: hospital.handle for name, hospital in hospitals.items()}
        return cls(hospitals, InProcessTransport(handlers, workers))

    def declared(self) -> dict[str, TrainingSet]:
        return {name: each.trainer.declared for name, each in self.hospitals.items()}

    def guarantees(self) -> dict[str, Guarantee]:
        return {
            name: spent.guarantee()
            for name, hospital in self.hospitals.items()
            if (spent := hospital.spent)
        }

    def evaluations(self) -> dict[str, Guarantee]:
        each = {
            name: spent.evaluation()
            for name, hospital in self.hospitals.items()
            if (spent := hospital.spent)
        }
        return {name: guarantee for name, guarantee in each.items() if guarantee}

    def restore(self, finished: int) -> None:
        for hospital in self.hospitals.values():
            check_point.restore(hospital, finished)
            hospital.client.begin_after(finished)

    def affordable(self, finished: int, rounds: int) -> int:
        return min(hospital.affordable(finished, rounds) for hospital in self.hospitals.values())

    def note_times(self, round_number: int, asked: Iterable[str]) -> None:
        for name in asked:
            hospital = self.hospitals[name]
            busy = hospital.client.busy_s
            own = Times(
                round=round_number,
                train_s=busy.get("train", 0.0),
                protocol_s=busy.get("protocol", 0.0),
            )
            times.append(hospital.folder, own)

    def tell_steps(self, stepped: Callable[[str], None]) -> None:
        for name, hospital in self.hospitals.items():
            hospital.trainer.stepped = partial(stepped, name)

    def write_results(self, local_auc: Mapping[str, float | None]) -> None:
        for name, hospital in self.hospitals.items():
            hospital_results.write_results(hospital, local_auc.get(name))


def _told_of_encoding(say: Say, name: str, done: int, total: int) -> None:
    say(f"preparing {name}, {done:,} of {total:,} slices encoded")


def here(
    job: JobDescription,
    directory: RunDirectory,
    data: FederatedData,
    say: Say,
    ledgers: Mapping[str, Ledger],
    *,
    view: View | None = None,
) -> tuple[JobDescription, Hospitals]:
    """Open the hospitals of a run in this process (`Gather`).

    Args:
        view: what they see of their patients, for baselines.
    """
    identities = new_identities(job.settings, job.hospitals)
    keys = {name: identity.public for name, identity in identities.items()}
    job = in_one_process(job.with_keys(keys))
    made_up, own = data.simulation, data.hospitals
    opened = HospitalsHere.open(
        job, directory, own, identities, say, ledgers, simulation=made_up, view=view
    )
    return job, opened


def new_identities(settings: Settings, names: Iterable[str]) -> dict[str, IdentityKey]:
    """Keys for the life of a process; none without masks.

    In a simulation there is nobody else to recognise a hospital tomorrow: a resumed run is a new
    job to the secure-sum protocol, with new keys.
    """
    if not settings.secure_aggregation.enabled:
        return {}
    return {name: IdentityKey.generate() for name in names}


def open_ledgers(
    settings: Settings, folders: Mapping[str, Path], run: str, lasting: Ledger | None
) -> dict[str, Ledger]:
    """Each hospital's ledger of the run, which pays in the data set's first; none without DP.

    Args:
        folders: of hospitals, made if they are not there.
        lasting: of the data set; None for phantoms.
    """
    held = {}
    for name, folder in folders.items():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ledger = run_ledger(settings, folder, name)
        if ledger and lasting:
            ledger.reserve_first_in(lasting, lifetime.name_of(run, name))
        if ledger:
            held[name] = ledger
    return held
