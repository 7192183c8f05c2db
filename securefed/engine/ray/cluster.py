"""Ray for the length of a run: started here, or joined where it runs already."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from securefed.errors import ConfigurationError

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def require_ray() -> None:
    """Return only if Ray is installed; it is imported then.

    Raises:
        ConfigurationError: it is not.
    """
    # Before the import, which reads them: nothing phones home, also not to say how Ray is used.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # What Ray will do by itself some day, and says in a warning until then.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        # By name: a folder called ray would be imported as a package without anything in it.
        from ray import init  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"--engine ray needs Ray ({error})", hint="pip install 'securefed[ray]'"
        ) from None


@contextmanager
def joined(address: str | None) -> Iterator[int]:
    """The number of workers that there is room for, one to a core.

    Args:
        address: of a running cluster ("auto", or HOST:PORT of its head); None starts Ray on this
            machine, and ends it afterwards.

    Raises:
        ConfigurationError: Ray is not installed, or nobody answers at the address.
    """
    require_ray()
    from ray import cluster_resources, init, shutdown

    handlers = {each: signal.getsignal(each) for each in STOPPING}
    try:
        # Ray's log has what Ray does: no output of workers is carried here, no page is served.
        init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"no Ray cluster at {address}: {str(error).splitlines()[0]}",
            hint="start one with: ray start --head, and give --address auto",
        ) from None
    finally:
        # Ray takes SIGTERM, which is to stop a run as Ctrl-C does (securefed.stopping).
        for each, handler in handlers.items():
            signal.signal(each, handler)
    try:
        yield max(1, int(cluster_resources().get("CPU", 1)))
    finally:
        shutdown()
