"""The one port of a federation: where its server listens, and nobody else may."""

import json
import socket
from pathlib import Path

from securefed.errors import ConfigurationError

_EVERYWHERE = ""  # all addresses of this machine, as FLARE's server listens


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_port(kit: Path) -> None:
    """Refuse to start a server whose port is taken. FLARE itself tries for a minute and more.

    Args:
        kit: of the server.

    Raises:
        ConfigurationError: somebody listens there, or the system does not let us.
    """
    about = json.loads((kit / "startup" / "fed_server.json").read_text())
    port = int(about["servers"][0]["service"]["target"].rpartition(":")[2])
    with socket.socket() as probe:
        # A connection that has just ended is in nobody's way; who listens is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_EVERYWHERE, port))
        except OSError as error:
            raise ConfigurationError(
                f"port {port}, which this server's certificates and hospitals know, cannot be "
                f"listened on ({error.strerror})",
                hint=f"ss -ltnp 'sport = :{port}' names who does: another server, or a program "
                "that one left behind when it was killed",
            ) from None
