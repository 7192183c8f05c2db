"""FLARE's own programs, started and stopped; and the server's jobs, one after the other.

A server plays the run of its folder: a job as soon as enough hospitals are connected, and another
one each time that a job ends before the run does, from the last finished round.
"""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from securefed.engine.flare import places, provisioning
from securefed.engine.flare.hardening import CONTROLLER, EXECUTOR, harden
from securefed.engine.flare.ports import require_port
from securefed.engine.flare.validity import require_valid
from securefed.errors import ConfigurationError, Interrupted, RunError, SecureFedError
from securefed.files import write_atomically
from securefed.record.check_point import CheckPoint
from securefed.record.summary import Summary
from securefed.secure_sum import fewest_hospitals
from securefed.stopping import stop_requests
from securefed.wire import agreement as agreement_file

POLL_S = 1.0
CONNECTED_S = 35.0  # since the last heartbeat, of which there is one in ten seconds
STOP_S = 15.0  # for a program that was asked to end
LEAVE_S = 5.0  # for its jobs to end by themselves
START_S = 60.0  # for the server's program to answer
SETTLE_S = 5.0  # for hospitals to hear that a job has ended
MOST_IN_VAIN = 3  # jobs without a finished round

Tell = Callable[[str], None]
GoOn = Callable[[], None]


def client_program(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Start FLARE's client of a site; it connects, reconnects, and runs the server's jobs.

    Raises:
        ConfigurationError: the site has no kit, or one that is not valid by the clock.
    """
    kit = _kit(folder, "securefed deploy request, approve and install make one")
    return _start(folder, "client.client_train", kit, "fed_client.json", f"uid={name}")


@contextmanager
def server_program(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """FLARE's server, from start to stop.

    Raises:
        ConfigurationError: the folder has no kit, or one that is not valid by the clock, or whose
            port is taken.
    """
    kit = _kit(folder, "securefed deploy server makes one")
    require_port(kit)
    program = _start(folder, "server.server_train", kit, "fed_server.json")
    try:
        yield program
    finally:
        stop(program)


def stop(program: subprocess.Popen[bytes]) -> None:
    """End a program and the jobs that it started: asked first, then made to.

    A job is in a session of its own. One that was just starting when its program went would try for
    ever to reach it, and hold the run's folder; one that hangs hears nothing.
    """
    import psutil  # comes with the engine

    jobs: set[psutil.Process] = set()
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(program.pid, signal.SIGSTOP)  # it starts none while they are counted
            jobs |= set(psutil.Process(program.pid).children(recursive=True))
            os.killpg(program.pid, number)
            os.killpg(program.pid, signal.SIGCONT)
            program.wait(STOP_S)
        except (ProcessLookupError, psutil.NoSuchProcess):
            break
        except subprocess.TimeoutExpired:
            continue
    _, left = psutil.wait_procs(jobs, LEAVE_S)
    for job in left:
        with suppress(psutil.NoSuchProcess):
            job.kill()


def play(folder: Path, tell: Tell, wait_s: float, program: subprocess.Popen[bytes]) -> Summary:
    """Play the run of a server's folder to its end, over a server program that runs.

    Args:
        wait_s: how long all hospitals are waited for, once enough of them are there.
        program: the server's, which runs.

    Raises:
        RunError: jobs end again and again without a finished round, or the program has ended.
        Interrupted: Ctrl-C; every finished round is on disk.
    """
    with stop_requests() as asked:
        return _play(folder, tell, wait_s, partial(_go_on, folder, program, asked))


def _play(folder: Path, tell: Tell, wait_s: float, go_on: GoOn) -> Summary:
    agreement = agreement_file.read(folder / agreement_file.NAME)
    fewest, everybody = fewest_hospitals(agreement.settings), agreement.roster.names
    session, in_vain = _session(folder, go_on), 0
    try:
        while not (folder / Summary.NAME).is_file():
            if in_vain == MOST_IN_VAIN:
                raise RunError(
                    f"{in_vain} jobs have ended without a finished round",
                    hint=f"{folder / places.ACTIVITY} and the hospitals' own logs say why",
                )
            _wait_for(session, folder, everybody, fewest, wait_s, tell, go_on)
            before = _finished(folder)
            _one_job(session, folder, go_on)
            in_vain = 0 if _finished(folder) > before else in_vain + 1
    finally:
        session.close()
    return Summary.read(folder)


def _kit(folder: Path, hint: str) -> Path:
    places.require_engine()
    kit = places.kit(folder).resolve()
    if not kit.is_dir():
        raise ConfigurationError(f"{folder} has no kit to connect with", hint=hint)
    require_valid(kit)
    return kit


def _start(
    folder: Path, program: str, kit: Path, config: str, *more: str
) -> subprocess.Popen[bytes]:
    harden(kit, server=program.startswith("server"))
    home = folder / "engine" / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    # Texts of exceptions can hold a path or a name, and FLARE has logs of its own.
    environment = {**os.environ, "NVFLARE_SECURE_LOGGING": "true", "HOME": str(home)}
    # For hospitals to say how a job ended for them; 15 minutes otherwise, for one that hangs.
    environment["NVFLARE_CLIENT_OUTCOME_WAIT_TIMEOUT"] = f"{SETTLE_S:g}"
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    log = (folder / "engine" / "program.log").open("ab")
    settings = ["secure_train=true", *more, f"org={provisioning.PROJECT}", "config_folder="]
    try:
        return subprocess.Popen(  # noqa: S603  # our own interpreter, arguments as a list
            [
                sys.executable, "-u", "-m", f"nvflare.private.fed.app.{program}",
                "-m", str(kit), "-s", config, "--set", *settings,
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=kit,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )  # fmt: skip
    finally:
        log.close()


def _session(folder: Path, go_on: GoOn) -> Any:
    from nvflare.fuel.flare_api.flare_api import new_secure_session

    # It tells of every try in vain; the program's own log has the reasons.
    logging.getLogger("nvflare").setLevel(logging.CRITICAL)
    end = time.monotonic() + START_S
    while True:
        try:
            # It greets on standard output, where a command's result belongs.
            with redirect_stdout(io.StringIO()):
                lead = str(places.lead(folder).resolve())
                return new_secure_session(provisioning.LEAD, lead, timeout=10.0)
        except Exception as error:
            go_on()
            if time.monotonic() > end:
                raise RunError(
                    f"the server's program does not answer ({type(error).__name__})",
                    hint=f"{folder / 'engine' / 'program.log'} has its words",
                ) from error
            time.sleep(POLL_S)


def _connected(session: Any, folder: Path) -> tuple[str, ...]:
    """Who is connected now; also written down for the job, which has no session of its own."""
    now = time.time()
    names = tuple(
        sorted(
            each.name
            for each in session.get_system_info().client_info
            if now - float(each.last_connect_time or 0) < CONNECTED_S
        )
    )
    write_atomically(places.connected(folder), msgspec.json.encode(names))
    return names


def _wait_for(
    session: Any,
    folder: Path,
    everybody: tuple[str, ...],
    fewest: int,
    wait_s: float,
    tell: Tell,
    go_on: GoOn,
) -> None:
    """Until everybody is connected, or enough have been for `wait_s`."""
    told, enough_since = "", None
    while True:
        there = [name for name in _connected(session, folder) if name in everybody]
        missing = [name for name in everybody if name not in there]
        text = f"connected: {', '.join(there) or 'nobody'}"
        text += f"; waiting for {', '.join(missing)}" if missing else ""
        if text != told:
            tell(text)
            told = text
        if not missing:
            return
        now = time.monotonic()
        enough_since = (enough_since or now) if len(there) >= fewest else None
        if enough_since is not None and now - enough_since > wait_s:
            return
        go_on()
        time.sleep(POLL_S)


def _one_job(session: Any, folder: Path, go_on: GoOn) -> None:
    """Submit a job and wait for its end, however it ends."""

    over_since: float | None = None

    def still(*_: Any, **__: Any) -> bool:
        nonlocal over_since
        _connected(session, folder)
        # A run that is over need not wait for what FLARE says of hospitals that have left.
        if (folder / Summary.NAME).is_file():
            over_since = over_since or time.monotonic()
        try:
            go_on()
        except SecureFedError:
            return False  # FLARE would keep an error to itself; it comes again below
        return over_since is None or time.monotonic() - over_since < SETTLE_S

    with tempfile.TemporaryDirectory() as place:
        job = session.submit_job(str(_definition(Path(place))))
    session.monitor_job(job, poll_interval=POLL_S, cb=still)
    go_on()


def _definition(place: Path) -> Path:
    """A job in FLARE's form: which class plays each part, and no code."""
    config = place / "job" / "app" / "config"
    config.mkdir(parents=True)
    server = {"workflows": [{"id": "securefed", "path": CONTROLLER, "args": {}}], "components": []}
    client = {"executors": [{"tasks": ["*"], "executor": {"path": EXECUTOR, "args": {}}}]}
    for name, content in (("server", server), ("client", client | {"components": []})):
        file = config / f"config_fed_{name}.json"
        file.write_text(json.dumps({"format_version": 2, **content}))
    meta = {
        "name": "securefed",
        "resource_spec": {},
        "deploy_map": {"app": ["@ALL"]},
        "min_clients": 1,
    }
    (place / "job" / "meta.json").write_text(json.dumps(meta))
    return place / "job"


def _finished(folder: Path) -> int:
    return CheckPoint.read(folder).round if (folder / CheckPoint.NAME).exists() else 0


def _go_on(folder: Path, program: subprocess.Popen[bytes], asked: Callable[[], bool]) -> None:
    """Return only if there is nothing against it. FLARE's code keeps Ctrl-C to itself at times."""
    if asked():
        raise Interrupted(
            "stopped; every finished round is on disk", hint="the same command goes on"
        )
    if program.poll() is not None:
        raise RunError(
            "the server's program has ended",
            hint=f"{folder / 'engine' / 'program.log'} has its last words",
        )
