"""What a run gives away that epsilon does not cover: the one list, for the page and the docs.

Epsilon is about training patients and what is computed from their gradients. Beside that travel
numbers about held-out patients, times, names and settings; each stands here with who has it, how
exact it is, and what makes it less. docs/threat-model.md has the list for every configuration
(docs/generate_who_sees_what.py), a report that of its run, computed from the run's own files.
"""

from collections.abc import Iterator

from securefed.reporting.facts import Uncovered


def outside_epsilon(
    configuration: str,
    *,
    declared: bool,
    noised_scores: bool,
    scorings: int | None,
    audited: bool,
    baselines: bool,
    each_hospital: bool,
) -> list[Uncovered]:
    """The list, what tells most first.

    Args:
        configuration: plain, dp, secure or dp+secure.
        declared: whether hospitals' numbers of training patients carry noise that epsilon pays for.
        noised_scores: whether held-out patients have an epsilon of their own.
        scorings: how often held-out patients were scored; None where it is not known yet.
        audited: whether attacks on the run's own patients were carried out and written down.
        baselines: whether models of hospitals alone, and of one modality, were scored.
        each_hospital: whether the page has each hospital's own numbers.
    """
    return [
        *_training("dp" in configuration, "secure" in configuration, declared),
        *(() if noised_scores else _held_out("secure" in configuration, scorings)),
        *_baselines(baselines),
        *_evidence(audited, each_hospital),
        *_beside(),
    ]


def _training(dp: bool, secure: bool, declared: bool) -> Iterator[Uncovered]:
    if not dp:
        yield Uncovered(
            what="everything that training computes: updates, their sums, the model, and where "
            "privacy.reference_epsilon asks for them sums over scans",
            who="whoever sees it",
            form="exact",
            less="train with differential privacy; nothing else bounds it",
        )
    if not declared:
        yield Uncovered(
            what="the number of training patients of "
            + ("all hospitals together" if secure else "each hospital"),
            who="the server, in every round",
            form="exact",
            less="with differential privacy privacy.patients_epsilon noises it, within epsilon",
        )


def _held_out(secure: bool, scorings: int | None) -> Iterator[Uncovered]:
    whose = "all hospitals together" if secure else "each hospital"
    often = "at every scoring" if scorings is None else f"{scorings} times"
    yield Uncovered(
        what=f"held-out patients of {whose}: how many of each label, and their scores in steps of "
        "the probability",
        who="the server; with all hospitals but one it has those of the last"
        if secure
        else "the server",
        form=f"exact, {often}",
        less="privacy.evaluation_epsilon, with differential privacy; a larger "
        "federation.evaluate_every" + ("" if secure else "; secure aggregation"),
    )
    yield Uncovered(
        what="what is computed from them: AUC, loss, confusion matrix, ROC curve",
        who="whoever gets metrics.jsonl, summary.json, held_out.json or the report",
        form="exact, over all hospitals",
        less="these files can be kept back",
    )


def _baselines(baselines: bool) -> Iterator[Uncovered]:
    if baselines:
        yield Uncovered(
            what="AUCs of models of each hospital alone and of one modality",
            who="whoever gets baselines.json, summary.json or the report",
            form="exact",
            less="leave out --baselines",
        )


def _evidence(audited: bool, each_hospital: bool) -> Iterator[Uncovered]:
    if audited:
        yield Uncovered(
            what="figures of attacks on the run's own training patients",
            who="whoever gets audit.json or the report",
            form="exact, computed with the patients at hand",
            less="pass on the verdict alone",
        )
    if each_hospital:
        yield Uncovered(
            what="each hospital's numbers of training and held-out patients, and its own results",
            who="whoever gets this report",
            form="exact",
            less="leave out --each-hospital",
        )


def _beside() -> Iterator[Uncovered]:
    yield Uncovered(
        what="when each hospital answers: a step over more patients takes longer",
        who="the server; a round's seconds also whoever gets metrics.jsonl or the report",
        form="exact for the server, tenths of a second in the file; one median in summary.json",
        less="not covered; a hospital's own times stay in its folder",
    )
    yield Uncovered(
        what="which hospitals there are, who took part in a round, and why one did not",
        who="the server and the other hospitals; metrics.jsonl",
        form="exact",
        less="not covered",
    )
    yield Uncovered(
        what="what run.json says of the data: whether two runs had the same patients, whether they "
        "are real, what was wrong with the files in words without numbers",
        who="whoever gets run.json or the report",
        form="a fingerprint under the site's key",
        less="without the key it confirms no guess of a patient",
    )
    yield Uncovered(
        what="the settings, and what choosing them by earlier results on these patients tells",
        who="everybody",
        form="exact",
        less="choose them on phantoms or other patients",
    )
