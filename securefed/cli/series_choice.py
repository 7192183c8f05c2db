"""`securefed data import --interactive`: a person chooses where a patient has several series."""

from collections.abc import Callable
from typing import TypeVar

import click

from securefed.data.choice import Choice, by_hand

S = TypeVar("S")


def ask(words: Callable[[S], str], patient: str, choice: Choice[S]) -> Choice[S]:
    """Ask for each modality of which several series could be used; the rules' choice is offered.

    Args:
        words: how a series is shown.
        patient: pseudonym.
    """
    why_left = {id(stack): why for stack, why in choice.left}
    for modality, rivals in choice.able.items():
        if len(rivals) < 2:
            continue
        offered = choice.used[modality]
        click.echo(f"{patient} has {len(rivals)} {modality.upper()} series:", err=True)
        for number, stack in enumerate(rivals, 1):
            why = "by the rules" if stack is offered else why_left.get(id(stack), "")
            click.echo(f"  {number}  {words(stack)}: {why}", err=True)
        default = next(n for n, stack in enumerate(rivals, 1) if stack is offered)
        answer = click.prompt(
            "  which one (0: none)", default, type=click.IntRange(0, len(rivals)), err=True
        )
        if answer != default:
            choice = by_hand(choice, modality, rivals[answer - 1] if answer else None)
    return choice
