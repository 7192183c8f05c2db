"""Which modules a program loads, in a process of its own."""

import os
import subprocess
import sys

SLOW = {"sklearn", "matplotlib", "torchvision", "pandas", "jinja2"}


def loaded(program: str, which: set[str]) -> str:
    """Those of `which`, as a sorted list in text."""
    end = f"\nimport sys\nprint(sorted({which!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program + end],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    return done.stdout.splitlines()[-1]
