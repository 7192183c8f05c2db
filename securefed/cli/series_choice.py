"""`securefed data import --interactive`: a person chooses where a patient has several series."""

from pathlib import Path

import click

from securefed.data.dicom.choice import Choice, by_hand
from securefed.data.dicom.report import describe


def ask(root: Path, patient: str, choice: Choice) -> Choice:
    """Ask for each modality of which several series could be used; the rules' choice is offered.

    Args:
        root: places of series are shown relative to it.
        patient: pseudonym.
    """
    why_left = {id(stack): why for stack, why in choice.left}
    for modality in ("CT", "MR"):
        rivals = [stack for stack in choice.able if stack.first.modality == modality]
        if len(rivals) < 2:
            continue
        offered = choice.ct if modality == "CT" else choice.mri
        click.echo(f"{patient} has {len(rivals)} {modality} series:", err=True)
        for number, stack in enumerate(rivals, 1):
            why = "by the rules" if stack is offered else why_left.get(id(stack), "")
            click.echo(f"  {number}  {describe(stack, root)}: {why}", err=True)
        default = next(n for n, stack in enumerate([None, *rivals]) if stack is offered)
        answer = click.prompt(
            "  which one (0: none)", default, type=click.IntRange(0, len(rivals)), err=True
        )
        if answer != default:
            choice = by_hand(choice, modality, rivals[answer - 1] if answer else None)
    return choice
