"""One audit from a run directory to audit.json: attacks, malicious client, verdict, pictures."""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attacks.policy import load_policy
from attacks.record import SCHEMA, exposure_record
from attacks.result import Effort as Efforts
from attacks.suite import Done, Step, conclude, steps
from securefed.auditing import figures
from securefed.auditing.choices import ATTACKS, MALICIOUS, Effort
from securefed.auditing.malicious_client import malicious_checks
from securefed.auditing.subject import canaries_of, exposures_of, subject_of
from securefed.exposure import OBSERVERS, Observer
from securefed.record.directory import RunDirectory

ROC = "roc / "  # attacks.membership.attack names its curves so
CANARIES = ("canary scores, included", "canary scores, excluded")  # and attacks.epsilon.attack

Report = Callable[[str, float], None]  # what is being done, and the finished share of everything


def audit_run(
    directory: Path,
    *,
    effort: Effort = "default",
    observers: Sequence[Observer] = OBSERVERS,
    attacks: Sequence[str] = ATTACKS,
    policy: Path | None = None,
    report: Report = lambda text, share: None,
) -> dict[str, Any]:
    """Audit a run; writes audit.json and audit/ into it.

    Ctrl-C ends it early: what was finished is judged and written, `interrupted` is true.

    Args:
        observers, attacks: of OBSERVERS and ATTACKS.
        policy: YAML file; None: the built-in one.
        report: told what is being done, and the finished share, 0 to 1.

    Returns:
        The content of audit.json.

    Raises:
        RunError: no run there, no recording, or its patients have changed.
        PolicyError: the policy cannot be used.
    """
    started = time.perf_counter()
    judge_by = load_policy(policy)
    run = RunDirectory.open(directory)
    exposures = exposures_of(directory, observers)
    subject = subject_of(directory)
    todo = steps(subject, exposures, attacks, Efforts(effort), canaries_of(directory))
    done, interrupted = _work(todo, report)
    checks = []
    if MALICIOUS in attacks and not interrupted:
        report(MALICIOUS, 1.0)
        checks = list(malicious_checks(subject.seed))
    audit = {
        "schema": SCHEMA,
        "run": run.read_json("run.json")["run"],
        "configuration": subject.configuration,
        "effort": effort,
        "seed": subject.seed,
        "interrupted": interrupted,
        "policy": {
            "name": judge_by.name,
            "set_by": judge_by.set_by,
            "confidence": judge_by.confidence,
            "sha256": hashlib.sha256(judge_by.model_dump_json().encode()).hexdigest(),
        },
        "exposures": [exposure_record(each) for each in exposures.values()],
        **conclude(done, checks, judge_by),
    }
    audit |= _draw(done, audit["epsilon"], run.path / "audit")
    audit["seconds"] = time.perf_counter() - started
    run.write_json("audit.json", audit)
    return audit


def _work(todo: Sequence[Step], report: Report) -> tuple[list[Done], bool]:
    """Run the steps; stops at Ctrl-C and says so."""
    total = sum(step.weight for step in todo)
    done: list[Done] = []
    before = 0.0
    try:
        for step in todo:

            def progress(share: float, step: Step = step, before: float = before) -> None:
                report(step.label, (before + step.weight * share) / total)

            progress(0.0)
            done.append(Done(step, step.work(progress)))
            before += step.weight
    except KeyboardInterrupt:
        return done, True
    return done, False


def _draw(
    done: Sequence[Done], epsilon: list[dict[str, Any]], folder: Path
) -> dict[str, list[dict[str, str]]]:
    """Draw every figure; returns the lists `pictures` and `curves` of audit.json."""
    figures.empty_folder(folder)
    pictures = [picture for each in done for picture in each.result.pictures]
    curves: list[dict[str, str]] = []

    def drawn(name: str, title: str) -> Path:
        curves.append({"file": f"{folder.name}/{name}", "title": title})
        return folder / name

    for each in done:
        observer, found = each.step.observer, each.result.curves
        roc = {key.removeprefix(ROC): found[key] for key in found if key.startswith(ROC)}
        if roc:
            title = f"Membership inference, {observer}"
            figures.draw_roc(roc, title, drawn(f"roc-{observer}.svg", title))
        if CANARIES[0] in found:
            title = f"Canary scores, {observer}"
            included, excluded = (found[key] for key in CANARIES)
            figures.draw_canaries(
                included, excluded, title, drawn(f"canaries-{observer}.svg", title)
            )
    if epsilon:
        title = "Epsilon claimed and certified"
        figures.draw_epsilon(epsilon, title, drawn("epsilon.svg", title))
    return {"pictures": figures.draw_pictures(pictures, folder), "curves": curves}
