"""The server's job: opens nothing but the server's folder, and plays the run as far as it goes."""

import logging
from pathlib import Path
from typing import Any

from nvflare.apis.impl.controller import Controller

from securefed.engine.flare import places
from securefed.engine.flare.transport import FlareTransport
from securefed.errors import RunError, SecureFedError
from securefed.record import activity, memberships
from securefed.record.json_file import decode
from securefed.server.federation import serve
from securefed.wire import agreement as agreement_file

MOST_PATIENCE = 6  # a job lasts 2^6 rounds at most before somebody may rejoin

log = logging.getLogger(__name__)


class FederationController(Controller):  # type: ignore[misc]  # FLARE has no types
    """Runs `serve` in a job of FLARE's."""

    def start_controller(self, fl_ctx: Any) -> None:
        """Nothing: the folder is opened in the flow."""

    def stop_controller(self, fl_ctx: Any) -> None:
        """Nothing: every round is on disk."""

    def process_result_of_unknown_task(self, *_: Any, **__: Any) -> None:
        """Nothing: there are no tasks."""

    def control_flow(self, abort_signal: Any, fl_ctx: Any) -> None:
        engine = fl_ctx.get_engine()
        folder = places.owner_of(engine.get_workspace().get_root_dir())
        tell = activity.teller(folder / places.ACTIVITY)
        try:
            agreement = agreement_file.read(folder / agreement_file.NAME)
            names = agreement.roster.names
            there = connected_now(folder)
            transport = FlareTransport(engine, fl_ctx, abort_signal, names, there)
            serve(folder, transport, tell, leave=_Leave(folder, transport, abort_signal))
        except SecureFedError as error:
            tell(f"{error}" + (f" ({error.hint})" if error.hint else ""))
        except Exception:
            log.exception("the job failed")
            raise


class _Leave:
    """Whether the job should end at this boundary, so that hospitals can rejoin.

    Each time that costs a start of everybody, so that the next is waited for twice as long.
    """

    def __init__(self, folder: Path, transport: FlareTransport, abort: Any) -> None:
        self._folder, self._transport, self._abort = folder, transport, abort
        self._rounds = 0
        self._patience = 2 ** min(memberships.newest(folder), MOST_PATIENCE)

    def __call__(self) -> bool:
        self._rounds += 1
        if self._abort.triggered:
            return True
        back = self._transport.lost & set(connected_now(self._folder))
        return bool(back) and self._rounds >= self._patience


def connected_now(folder: Path) -> tuple[str, ...]:
    """Which hospitals are connected, as the server's own program last saw; none if it has not."""
    try:
        content = places.connected(folder).read_bytes()
        return decode(content, tuple[str, ...], "connected.json")
    except (OSError, RunError):
        return ()
