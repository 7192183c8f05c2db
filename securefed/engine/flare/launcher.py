"""Starts a hospital's job; one that dies is a dropout and does not end the job of the others.

A site is in one job at a time. One that hangs does not hear that its job is over, and would keep
the run's folder from the next one: it ends when that one begins.
"""

from typing import Any

from nvflare.apis.job_launcher_spec import JobReturnCode
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher


class DropoutLauncher(ClientProcessJobLauncher):  # type: ignore[misc]  # FLARE has no types
    """FLARE's own launcher, but for what a killed process is taken for, and one that hangs."""

    def __init__(self) -> None:
        super().__init__()
        self._before: Any = None

    def launch_job(self, job_meta: Any, fl_ctx: Any) -> Any:
        if self._before is not None:
            self._before.terminate()
        handle = super().launch_job(job_meta, fl_ctx)
        poll = handle.poll

        def softly() -> Any:
            code = poll()
            return code if code == JobReturnCode.SUCCESS else JobReturnCode.UNKNOWN

        handle.poll = softly
        self._before = handle
        return handle
