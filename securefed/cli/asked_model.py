"""What the commands that ask a released model have in common: which model, about which patients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)

personal_option = click.option(
    "--personal", type=PATH, help="A hospital's personal.safetensors, laid over MODEL."
)


def of_patients(command: Callable[..., Any]) -> Callable[..., Any]:
    """MODEL, PATIENTS and --personal."""
    patients = click.argument("patients", type=PATH)
    return click.argument("model", type=PATH)(patients(personal_option(command)))
