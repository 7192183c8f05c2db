"""How good the final model is, and what its figures cannot carry.

A figure of a few patients looks as sure as one of thousands, so each has a 95% interval, and one
whose interval is wider than TOO_WIDE is not put forward: the page shows the interval, says why, and
keeps the figure small. Rates have Wilson's interval (1927), widened on each side by what the noise
in their counts does; a test holds their coverage.
"""

from collections.abc import Iterator

from securefed.record.summary import Confusion, HeldOut, HospitalSummary, Scores, Summary
from securefed.reporting.class_utility import classes_of, of_single_classes
from securefed.reporting.facts import Utility
from securefed.reporting.rates import Interval, too_wide
from securefed.reporting.thresholds import thresholds
from securefed.reporting.withheld import Withheld
from securefed.reporting.words import number, span
from securefed.run_directory import Run
from securefed.wording import counted

NO_MORE_THAN_CHANCE = 0.1  # sensitivity less false alarms: the answer hardly follows the truth
ONE_ANSWER = 0.9  # of one kind of patients; with the above, nearly everybody gets the same answer


def utility(run: Run, withheld: Withheld, *, declared_with_noise: bool) -> Utility:
    """The utility of a run, without what evidence speaks against."""
    summary = run.summary
    held_out = None if HeldOut.NAME in withheld else run.held_out
    known = Summary.NAME not in withheld
    names = [name for name in Scores.__struct_fields__ if name != "classes"]
    scores = {name: getattr(summary, name) if known else None for name in names}
    noise = held_out.noise if held_out else None
    confusion = held_out.confusion if held_out else None
    intervals = held_out.rate_intervals if held_out else {}
    classes = classes_of(summary.classes if known else (), held_out)
    unsure = [
        name
        for name, interval in {"auc": scores["auc_ci95"], **intervals}.items()
        if scores[name] is not None and too_wide(interval)
    ]
    return Utility(
        patients=held_out.patients if held_out else 0,
        training_patients=summary.patients if known else None,
        declared_with_noise=declared_with_noise,
        **scores,
        classes=tuple(classes),
        sensitivity_ci95=intervals.get("sensitivity"),
        specificity_ci95=intervals.get("specificity"),
        accuracy_ci95=intervals.get("accuracy"),
        local_auc=summary.local_auc if known else None,
        noise=noise,
        confusion=confusion,
        roc=held_out.roc if held_out else None,
        calibration=held_out.calibration if held_out else None,
        thresholds=thresholds(held_out) if held_out else None,
        unsure=unsure,
        cautions=[
            *cautions(scores["auc"], scores["auc_ci95"], confusion, noised=noise is not None),
            *of_single_classes(classes),
            *([chosen] if known and (chosen := choice(run)) else []),
        ],
        # Of few patients it is a caution, of enough something to act on.
        answers_alike=answers_alike(confusion, scores["auc"])
        if confusion and not {"sensitivity", "specificity"} & set(unsure)
        else "",
    )


def cautions_of(summary: Summary, held_out: HeldOut) -> Iterator[str]:
    """What must be said beside the figures of a summary, in sentences."""
    noised = held_out.noise is not None
    yield from cautions(summary.auc, summary.auc_ci95, held_out.confusion, noised=noised)
    yield from of_single_classes(classes_of(summary.classes, held_out))


def cautions(
    auc: float | None, interval: Interval | None, confusion: Confusion | None, *, noised: bool
) -> Iterator[str]:
    """What must be said beside the figures of a model, in sentences."""
    patients = _patients(confusion)
    held_out = counted(patients, "held-out patient") + (", counted with noise," if noised else "")
    if auc is not None and interval is not None:
        if too_wide(interval):
            few = "is" if patients == 1 else "are"
            yield (
                f"{held_out} {few} too few to say how good the model is: AUC {number(auc)}, and "
                f"the truth may lie anywhere from {span(interval)}."
                if patients
                else f"AUC {number(auc)} is too unsure to say how good the model is: the truth may "
                f"lie anywhere from {span(interval)}."
            )
        if interval[1] < 0.5:
            yield "The model is worse than guessing: the interval of its AUC lies below 0.5."
        elif interval[0] <= 0.5:
            yield "Not shown to be better than guessing: the interval of the AUC holds 0.5."
    if confusion:
        ill, healthy = _ill(confusion), patients - _ill(confusion)
        if patients and not (ill and healthy):
            kind = "ill" if ill else "healthy"
            yield f"All held-out patients are {kind}: nothing shows whether the model can tell."
        if alike := answers_alike(confusion, auc):
            yield alike


def choice(run: Run) -> str:
    """Which round's model was kept, and what that means; "" where it is the last one's."""
    after, trained = run.summary.chosen_after, run.summary.rounds
    if after is None:
        return ""
    scored = len([where for where, _ in run.metrics.curve if where <= trained])
    left = run.settings.federation.rounds - trained
    ended = f" {counted(left, 'round')} were not trained and cost nothing." if left else ""
    return (
        f"The model is what round {after} of {trained} came to, the best of {scored} that were "
        f"scored on the same held-out patients: its AUC looks better than it is.{ended}"
    )


def answers_alike(one: Confusion, auc: float | None) -> str:
    """That the answers at probability one half do not follow the truth; "" where they do."""
    ill, healthy = _ill(one), one.true_negative + one.false_positive
    if not ill or not healthy:
        return ""
    found, alarmed = one.true_positive / ill, one.false_positive / healthy
    if found - alarmed > NO_MORE_THAN_CHANCE:
        return ""
    figures = f"sensitivity {number(found)} beside specificity {number(1 - alarmed)}"
    remedy = ""
    if auc is not None and auc >= 0.7:  # what the order is worth, the answers do not show
        remedy = " The AUC is of their order; another threshold than one half may tell them apart."
    if min(found, alarmed) >= ONE_ANSWER or max(found, alarmed) <= 1 - ONE_ANSWER:
        everybody = "ill" if found >= ONE_ANSWER else "healthy"
        return (
            f"At probability one half the model calls nearly everybody {everybody}, whatever is "
            f"true: {figures}. Neither says anything alone.{remedy}"
        )
    return (
        f"At probability one half the answers do not follow the truth: {figures} is no better than "
        f"what guessing gives.{remedy}"
    )


def unsure_hospitals(hospitals: tuple[HospitalSummary, ...]) -> list[str]:
    """Hospitals whose own AUC is too unsure to be put forward, by name."""
    return [one.name for one in hospitals if one.auc is not None and too_wide(one.auc_ci95)]


def _ill(confusion: Confusion) -> float:
    return confusion.true_positive + confusion.false_negative


def _patients(confusion: Confusion | None) -> int:
    if confusion is None:
        return 0
    one = confusion
    return round(one.true_positive + one.false_negative + one.false_positive + one.true_negative)
