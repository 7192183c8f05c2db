"""What a run claims about privacy: epsilon with all that it means nothing without, and in words."""

import math
from collections.abc import Sequence
from dataclasses import replace

from securefed.privacy.accounting import Guarantee, at_most
from securefed.privacy.accounting import epsilon as epsilon_of
from securefed.privacy.statement import of_one_person
from securefed.record.mismatch import Mismatch
from securefed.reporting.facts import Privacy
from securefed.reporting.sights import Scored
from securefed.run_directory import Run

AGREED = "This is what was agreed; each hospital holds the run to it in a ledger of its own."
LARGEST_ODDS = 500  # beyond e^500 it is no number that anybody could use


def claim(run: Run, evidence: Sequence[Mismatch]) -> Privacy:
    """The claim of a run; none where its files contradict each other.

    Raises:
        PrivacyError: a ledger is missing or damaged that evidence does not name.
    """
    settings = run.settings.privacy
    if evidence:
        first, more = evidence[0], len(evidence) - 1
        others = f", and {more} more" if more else ""
        return Privacy(
            dp=settings.dp,
            noise=settings.noise,
            sentence="No epsilon is claimed: the files of this run contradict each other or are "
            f"missing ({first}{others}).",
        )
    guarantee = run.guarantee
    if guarantee is None:
        return Privacy(
            dp=False,
            noise="none",
            sentence="No differential privacy: nothing bounds what the updates and the model tell "
            "about a patient.",
        )
    epsilon = guarantee.epsilon
    odds = math.exp(epsilon) if epsilon is not None and epsilon < LARGEST_ODDS else None
    return Privacy(
        dp=True,
        sentence=_sentence(run, guarantee),
        plainly=_plainly(odds, guarantee),
        epsilon=epsilon,
        delta=guarantee.delta,
        unit=guarantee.unit,
        adjacency=guarantee.adjacency,
        sampling=guarantee.sampling.capitalize(),
        accountant=guarantee.accountant,
        placement=settings.placement,
        clip_norm=settings.clip_norm,
        noise=guarantee.noise,
        together=_together(run) if epsilon is not None else "",
        odds_factor=odds,
        evaluation=_evaluation(run),
        evaluation_epsilon=run.evaluation.epsilon if run.evaluation else None,
    )


def scored(run: Run) -> Scored | None:
    """What bounds the noised scores of held-out patients; None where they are exact."""
    noise, privacy = run.job.score_noise, run.settings.privacy
    if noise is None or run.evaluation is None or run.evaluation.epsilon is None:
        return None
    own = replace(noise, counted=1)  # what a patient changes stays what it is
    alone = epsilon_of([own.event], privacy.delta, privacy.accountant)
    return Scored(f"epsilon {at_most(run.evaluation.epsilon)}", f"epsilon {at_most(alone)}")


def _sentence(run: Run, guarantee: Guarantee) -> str:
    if guarantee.epsilon is None:
        return f"No epsilon: the noise is {guarantee.noise}, and whoever has the seed removes it."
    rounds = run.trained
    over = f"all {rounds} rounds" if rounds > 1 else "the one round"
    return (
        f"Epsilon {at_most(guarantee.epsilon)} at delta {guarantee.delta:g} per {guarantee.unit} "
        f"of a hospital, under {guarantee.adjacency} adjacency and "
        f"{guarantee.sampling.capitalize()} sampling, an upper bound by the "
        f"{guarantee.accountant.upper()} accountant over {over}."
        + (f" {AGREED}" if run.party == "server" else "")
    )


def _plainly(odds: float | None, guarantee: Guarantee) -> str:
    if guarantee.epsilon is None:
        return ""
    factor = "e to the epsilon" if odds is None else f"{math.ceil(odds):,}"
    return (
        "In words: whatever anybody computes from what a hospital sent, the chance of any result "
        f"changes by a factor of at most {factor} whether one {guarantee.unit} was in training or "
        f"not, apart from a chance of {guarantee.delta:g}."
    )


def _evaluation(run: Run) -> str:
    spent = run.evaluation
    if run.settings.privacy.evaluation_epsilon is None:
        return "Held-out patients are not covered: their scores are exact totals."
    if spent is None:
        return "Held-out patients were not scored, and have spent nothing."
    return (
        "Held-out patients, who never train, are covered by a guarantee of their own, not part of "
        f"that figure: {spent}. The final model was scored once, with noise in each count."
    )


def _together(run: Run) -> str:
    ledgers = list(run.ledgers.values())
    if len(ledgers) < 2:
        return ""
    two, everywhere = of_one_person(ledgers, 2), of_one_person(ledgers, len(ledgers))
    if two is None or everywhere is None:
        return (
            "A person who is a patient of two hospitals is a group of two under shared noise, for "
            "which this epsilon does not hold."
        )
    of_all = f", of all {len(ledgers)} {at_most(everywhere.epsilon)}" if len(ledgers) > 2 else ""
    return (
        f"A person who is a patient of two of the hospitals has epsilon {at_most(two.epsilon)}"
        f"{of_all}: their histories composed as one, at the same delta."
    )
