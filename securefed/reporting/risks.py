"""What stands out in a run, gravest first, each with what to change.

The order is by what is at stake, not by a score that was measured: a claim shown false, then no
claim, then a claim that rests on others, then what nobody looked at, then how far results carry.
Every risk names the section of the report with its evidence.
"""

import math
from collections.abc import Iterator, Sequence

import msgspec

from securefed.privacy.accounting import at_most
from securefed.record.audit import AuditFile
from securefed.reporting.audit_risks import audited
from securefed.reporting.facts import Risk, RunFacts
from securefed.reporting.risk import risk
from securefed.reporting.words import number, span
from securefed.wording import command_line, counted, first_of

# Above this epsilon e^epsilon is over 20: a bound on paper more than in practice.
MEANINGFUL_EPSILON = 3.0
WIDE_INTERVAL = 0.1
# What a data set is if not real patients: kind, title, why, what to change.
_SIMULATED = (
    (
        "phantom",
        "Synthetic patients: no result here is about people",
        "The scans are drawings. AUC on them says how the method does on drawings, not what it "
        "diagnoses; what leaks about them does not transfer to real scans either.",
        "Repeat with --data on real scans before any decision.",
    ),
    (
        "paired-by-class",
        "Pairs of different people: no result here is about patients",
        "The CT and the MRI of a pair were put together by their label. No pair shows one person, "
        "one person may be in several pairs and on both sides of the split: no figure is about "
        "patients, and epsilon protects a pair, not a person.",
        "Repeat with scans whose patients are known before any decision.",
    ),
    (
        "made-up-patients",
        "Made-up patients: no result here is about people",
        "The images were grouped into patients that nobody is. One person may be in several and on "
        "both sides of the split: no figure is about patients, and epsilon protects a group of "
        "images, not a person.",
        "Repeat with scans whose patients are known before any decision.",
    ),
)


def risks(run: RunFacts) -> list[Risk]:
    """All risks of one run, gravest first."""
    own = [*_contradicted(run), *_simulated(run), *audited(run), *_bounded(run), *_hidden(run)]
    own += _useful(run)
    return sorted(own, key=lambda each: -each.grave)


def merged(several: Sequence[Risk]) -> list[Risk]:
    """Risks of several runs, gravest first; the same advice to several runs stands once."""
    by_advice: dict[tuple[str, str], list[Risk]] = {}
    for each in several:
        by_advice.setdefault((each.title, each.change), []).append(each)
    groups = [sorted(group, key=lambda each: -each.grave) for group in by_advice.values()]
    together = [
        msgspec.structs.replace(
            group[0],
            why=_why(group),
            runs=[name for each in group for name in each.runs],
            commands=list(dict.fromkeys(line for each in group for line in each.commands)),
        )
        for group in groups
    ]
    return sorted(together, key=lambda each: -each.grave)


def _why(group: Sequence[Risk]) -> str:
    """Of risks with the same advice; figures of one run are not said of the others."""
    first = group[0]
    if all(each.why == first.why for each in group):
        return first.why
    return f"For instance {first.runs[0]}: {first.why}"


def _contradicted(run: RunFacts) -> Iterator[Risk]:
    if not run.evidence:
        return
    # An audit can be made again, in contrast to everything else that a run leaves.
    of_audit = all(each.file == AuditFile.NAME for each in run.evidence)
    yield risk(
        run,
        120,
        "The files of this run contradict each other, or are missing",
        f"{first_of(run.evidence)}.",
        "The run itself agrees; audit it again."
        if of_audit
        else "Believe none of it. Put back the files as the run wrote them, or make the run again.",
        "evidence",
        [command_line("audit", run.place)] if of_audit else (),
    )


def _simulated(run: RunFacts) -> Iterator[Risk]:
    """Graver than a failed attack: nothing else on the page means what it seems to mean."""
    kinds = (run.simulation or "").split("+")
    for kind, title, why, change in _SIMULATED:
        if kind in kinds:
            yield risk(run, 110, title, why, change, "utility")
    if run.canaries:
        yield risk(
            run,
            105,
            "A run for auditing: its model is not for use",
            f"Some of {run.canaries} made-up records, each by its own coin, trained beside the "
            "patients of one hospital, so that an audit can test epsilon.",
            "Train the model that is to be used without --canaries.",
            "audit",
        )


def _bounded(run: RunFacts) -> Iterator[Risk]:
    privacy = run.privacy
    if not privacy.dp:
        yield risk(
            run,
            90,
            "Nothing bounds what the model tells about a patient",
            "The run has no differential privacy. Masks hide single updates from the server, but "
            "the sum and the released model still carry what was in the scans.",
            "Train with --dp-epsilon; securefed budget shows what a budget costs.",
            "privacy",
        )
        return
    if privacy.noise == "seeded":
        yield risk(
            run,
            95,
            "The noise can be removed",
            "It was drawn from a seed that stands in run.json. Whoever has the seed subtracts it.",
            "Train again without --seeded-noise before anything leaves.",
            "privacy",
        )
    if privacy.epsilon and privacy.epsilon > MEANINGFUL_EPSILON:
        factor = privacy.odds_factor
        odds = "e to the epsilon" if factor is None else f"{math.ceil(factor):,}"
        yield risk(
            run,
            40,
            "Epsilon is a weak bound on its own",
            f"Epsilon {at_most(privacy.epsilon)} allows any conclusion about one {privacy.unit} to "
            f"become up to {odds} times more likely. Attacks usually reach far less, which only an "
            "audit can show.",
            "Train with a smaller epsilon (--dp-epsilon); securefed compare shows the AUC that "
            "each one costs.",
            "privacy",
        )
    if privacy.unit == "image":
        yield risk(
            run,
            60,
            "The bound is per slice, not per patient",
            "A patient with ten slices may lose ten times the epsilon.",
            "Set privacy.unit: patient.",
            "privacy",
        )
    if any(each.key == "data.allow_duplicates" and each.value == "true" for each in run.settings):
        yield risk(
            run,
            62,
            "One person may be two patients",
            "The run was told to go on although patient ids seem to be one person's. Epsilon is "
            "then per id: such a person has the loss of both.",
            "Give each person one patient_id, and leave data.allow_duplicates out.",
            "settings",
        )
    if privacy.placement == "distributed":
        yield risk(
            run,
            55,
            "Each hospital relies on the others' noise",
            "Every hospital adds a share only. If more collude than planned, or leave theirs out, "
            "epsilon holds for nobody, and nobody notices.",
            "Set privacy.placement: local, unless the hospitals trust each other with this.",
            "sees",
        )


def _hidden(run: RunFacts) -> Iterator[Risk]:
    secure = "secure" in run.configuration
    (peer,) = [sight for sight in run.sights if sight.observer == "peer"]
    if peer.exposed:
        yield risk(
            run,
            85 if not run.privacy.dp else 50,
            "Two hospitals in a round: each can compute the other's update",
            "The sum less one's own part is the other's part. Masks protect from the server only.",
            "Have three hospitals in each round, or rely on differential privacy alone and say so.",
            "sees",
        )
    if not secure:
        yield risk(
            run,
            70 if not run.privacy.dp else 52,
            "The server sees every hospital's update",
            "Also its held-out counts, which training's epsilon does not cover.",
            "Train with --secure; it costs a few kilobytes per round.",
            "sees",
        )


def _useful(run: RunFacts) -> Iterator[Risk]:
    utility = run.utility
    if utility.local_auc and utility.auc and utility.local_auc > utility.auc:
        yield risk(
            run,
            58,
            "Hospitals do better alone",
            f"Mean AUC alone {number(utility.local_auc)}, together {number(utility.auc)}: they "
            "take a risk and get nothing for it.",
            "Do not join on these settings; try other rounds, learning rates or a larger epsilon.",
            "utility",
        )
    interval = utility.auc_ci95
    if interval and interval[0] <= 0.5:
        yield risk(
            run,
            50,
            "Not shown to be better than guessing",
            f"AUC {number(utility.auc)}, 95% interval {span(interval)}, which holds 0.5 or lies "
            "below it.",
            "Do not use this model. Train longer or on more patients, and hold out enough to tell.",
            "utility",
        )
    if utility.answers_alike:
        yield risk(
            run,
            48,
            "The answers do not follow the truth",
            utility.answers_alike,
            "Do not take sensitivity or specificity alone; look at the ROC curve for a threshold.",
            "utility",
        )
    if interval and interval[1] - interval[0] > WIDE_INTERVAL:
        yield risk(
            run,
            30,
            "Too few held-out patients to say how good the model is",
            f"AUC {number(utility.auc)}, 95% interval {span(interval)} over "
            f"{counted(utility.patients, 'patient')}"
            + (" counted with noise." if utility.noise is not None else "."),
            "Hold out more patients.",
            "utility",
        )
