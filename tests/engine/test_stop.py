"""What is stopped ends with all that it started."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("nvflare") is None:
    pytest.skip("nvflare is not installed (extra `engine`)", allow_module_level=True)

from securefed.engine.flare import processes
from tests.engine.machines import alive, wait_until

# As FLARE's client does: jobs in sessions of their own. This one hears nothing.
PROGRAM = """
import subprocess, sys, time
job = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {}"
child = subprocess.Popen([sys.executable, "-c", job.format("time.sleep(300)")],
    start_new_session=True, stdout=subprocess.PIPE)
child.stdout.read(1)
print(child.pid, flush=True)
time.sleep(300)
"""


def test_a_job_that_hears_nothing_ends_with_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LEAVE_S", 0.1)
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, start_new_session=True
    )
    assert program.stdout is not None
    job = int(program.stdout.readline())
    assert alive(job)
    assert os.getpgid(job) != program.pid
    processes.stop(program)
    program.stdout.close()
    wait_until(lambda: not alive(job), "the job's end")
