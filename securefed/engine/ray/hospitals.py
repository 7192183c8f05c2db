"""All hospitals of a run on Ray's workers: a call to all of them is one to each worker.

A worker is an actor on one core; hospital i is on worker i mod workers. A worker that has died is
not waited for: `WorkerLost` ends what was being done, and the run is taken up again from what is on
disk, with new workers and new keys (`runs`), as after a crash of the whole simulation. A round with
half of the hospitals gone would be another run.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from securefed.data.load import FederatedData
from securefed.engine.ray.worker import Public, Refusal, Worker
from securefed.errors import RunError
from securefed.privacy.accounting import Guarantee
from securefed.privacy.ledger import Ledger
from securefed.record.directory import RunDirectory
from securefed.simulation.hospitals import Hospitals, Say
from securefed.training.trainer import TrainingSet
from securefed.wire.description import JobDescription
from securefed.wording import counted

GONE_S = 30.0  # until a worker that was ended is taken for gone


class WorkerLost(RunError):
    """A worker has died, or cannot be reached."""


class RayTransport:
    """A stage goes to each worker at once; a deadline is its hospitals', as each takes its turn."""

    def __init__(self, workers: Mapping[str, ActorHandle]) -> None:
        self._workers = workers

    def clients(self) -> list[str]:
        return list(self._workers)

    def stage(self, requests: Mapping[str, bytes], deadline_s: float) -> dict[str, bytes]:
        parts: dict[ActorHandle, dict[str, bytes]] = {}
        for name, request in requests.items():
            parts.setdefault(self._workers[name], {})[name] = request
        waiting = [worker.stage.remote(part, deadline_s) for worker, part in parts.items()]
        replies = {name: each for part in fetched(waiting) for name, each in part.items()}
        # In the order of the requests, whoever answered first.
        return {name: replies[name] for name in requests if name in replies}


class HospitalsOnWorkers:
    """As `simulation.hospitals.HospitalsHere`, of every worker."""

    def __init__(self, workers: Mapping[str, ActorHandle]) -> None:
        self._workers = dict(workers)
        self.transport = RayTransport(self._workers)

    def processes(self) -> list[int]:
        """The numbers of the workers' processes."""
        return fetched([worker.process.remote() for worker in self._distinct()])

    def declared(self) -> dict[str, TrainingSet]:
        return self._merged("declared")

    def guarantees(self) -> dict[str, Guarantee]:
        return self._merged("guarantees")

    def evaluations(self) -> dict[str, Guarantee]:
        return self._merged("evaluations")

    def restore(self, finished: int) -> None:
        self._each("restore", finished)

    def affordable(self, finished: int, rounds: int) -> int:
        affordable: int = min(self._each("affordable", finished, rounds))
        return affordable

    def note_times(self, round_number: int, asked: Iterable[str]) -> None:
        parts: dict[ActorHandle, list[str]] = {}
        for name in asked:
            parts.setdefault(self._workers[name], []).append(name)
        fetched([each.call.remote("note_times", round_number, parts[each]) for each in parts])

    def tell_steps(self, stepped: Callable[[str], None]) -> None:
        """Nobody's: each would be a message. Whoever asks learns of rounds."""

    def write_results(self, local_auc: Mapping[str, float | None]) -> None:
        self._each("write_results", dict(local_auc))

    def _distinct(self) -> list[ActorHandle]:
        return list(dict.fromkeys(self._workers.values()))

    def _each(self, method: str, *arguments: Any) -> list[Any]:
        return fetched([worker.call.remote(method, *arguments) for worker in self._distinct()])

    def _merged(self, method: str) -> dict[str, Any]:
        found = {name: value for part in self._each(method) for name, value in part.items()}
        return {name: found[name] for name in self._workers if name in found}


class Workers:
    """Actors of one attempt at a run, one core each.

    Args:
        count: how many, or fewer where there are fewer hospitals.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._actors: list[ActorHandle] = []

    def gather(
        self,
        job: JobDescription,
        directory: RunDirectory,
        data: FederatedData,
        say: Say,
        ledgers: Mapping[str, Ledger],
    ) -> tuple[JobDescription, Hospitals]:
        """As `simulation.hospitals.Gather`."""
        patients = data.hospitals
        used = min(self._count, len(patients))
        say(f"preparing {len(patients)} hospitals on {counted(used, 'worker')}")
        # Nothing that Ray would start again by itself: it would know nothing.
        actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Worker)
        place, settings = str(directory.path.resolve()), job.settings.model_dump_json()
        workers = self._actors = [actor.remote(place, settings) for _ in range(used)]
        parts = [patients[number::used] for number in range(used)]
        names = [[each.name for each in part] for part in parts]
        asked = [worker.keys.remote(part) for worker, part in zip(workers, names, strict=True)]
        keys = {name: key for part in fetched(asked) for name, key in part.items()}
        # In the order of the hospitals, as in one process.
        job = job.with_keys({name: keys[name] for name in job.hospitals if name in keys})
        public = Public.of(job)
        fetched(
            [
                worker.open.remote(public, part, data.simulation)
                for worker, part in zip(workers, parts, strict=True)
            ]
        )
        of = {name: worker for worker, part in zip(workers, names, strict=True) for name in part}
        return job, HospitalsOnWorkers({name: of[name] for name in job.hospitals})

    def end(self) -> None:
        """End them, whatever they do, and return when they are gone.

        What they write is in the run's folder, and whoever takes the run up must be alone there.
        """
        for each in self._actors:
            ray.kill(each)
        for each in self._actors:
            with suppress(RayError):  # that it is dead is what is waited for
                ray.get(each.process.remote(), timeout=GONE_S)
        self._actors = []


def fetched(waiting: list[Any]) -> list[Any]:
    """What workers give.

    Raises:
        WorkerLost: one has died.
        SecureFedError: the first that one of them came to.
    """
    try:
        found = ray.get(waiting)
    except RayError as error:
        text = str(error).strip().splitlines()
        raise WorkerLost(
            f"a worker was lost ({type(error).__name__}: {text[0] if text else 'no reason'})",
            hint="hospitals.log in the run's folder and Ray's own log have more",
        ) from None
    for each in found:
        if isinstance(each, Refusal):
            raise each.error()
    return list(found)
