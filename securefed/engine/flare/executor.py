"""A hospital's job: everything is in the site's folder, and bytes are all that comes and goes.

The handler is registered before anything is imported, since FLARE keeps a message that nobody takes
for as long as its sender waits.
"""

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from protocols.errors import ProtocolError
from securefed.engine.flare import places
from securefed.engine.flare.transport import BODY, TOPIC
from securefed.errors import SecureFedError
from securefed.record import activity
from securefed.wire.hello import Presence, encode_presence, is_hello

if TYPE_CHECKING:
    from securefed.hospital.member import Member

PATIENCE_S = 4.0  # for the imports, before hello is answered by "not ready yet"

log = logging.getLogger(__name__)


class FederationExecutor(Executor):  # type: ignore[misc]  # FLARE has no types
    """Answers auxiliary messages; there are no tasks."""

    def __init__(self) -> None:
        super().__init__()
        self._member: Member | None = None
        self._refused = ""
        self._opened = threading.Event()

    def handle_event(self, event_type: str, fl_ctx: Any) -> None:
        """Begin to open the site when the job starts, and close it when it ends."""
        if event_type == EventType.START_RUN:
            engine = fl_ctx.get_engine()
            engine.register_aux_message_handler(topic=TOPIC, message_handle_func=self._answer)
            folder = places.owner_of(engine.get_workspace().get_root_dir())
            threading.Thread(target=self._open, args=(folder,), daemon=True).start()
        elif event_type == EventType.END_RUN and self._member is not None:
            self._member.close()

    def execute(self, task_name: str, shareable: Any, fl_ctx: Any, abort_signal: Any) -> Any:
        """Refuse every task."""
        return make_reply(ReturnCode.TASK_UNKNOWN)

    def _open(self, folder: Path) -> None:
        tell = activity.teller(folder / places.ACTIVITY)
        try:
            from securefed.hospital.member import Member  # torch: seconds
            from securefed.hospital.site import open_site

            self._member = Member(open_site(folder), tell)
        except (SecureFedError, ProtocolError, OSError) as error:
            self._refused = type(error).__name__
            tell(f"this site cannot be opened: {error}")
        finally:
            self._opened.set()

    def _answer(self, topic: str, request: Any, fl_ctx: Any) -> Any:
        body = request.get(BODY)
        data = body if isinstance(body, bytes) else b""
        self._opened.wait(PATIENCE_S)
        if self._member is not None:
            return _ok(self._member.handle(data))
        if is_hello(data):
            state = Presence("refused", self._refused) if self._refused else Presence("opening")
            return _ok(encode_presence(state))
        return make_reply(ReturnCode.EXECUTION_EXCEPTION)


def _ok(body: bytes) -> Any:
    reply: Shareable = make_reply(ReturnCode.OK)
    reply[BODY] = body
    return reply
