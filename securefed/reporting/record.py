"""From a run directory, or a comparison's, to the facts of its report.

The order of work: read, count and compose what can be computed again (egress, ledgers), say who
sees what, then draw the few conclusions that stand on the page: verdicts, risks, answers to
questions.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from securefed import __version__
from securefed.errors import RunError
from securefed.record.comparison import CompareFile
from securefed.record.inventory import InputFile
from securefed.record.mismatch import Mismatch
from securefed.record.run_file import RunFile
from securefed.reporting.compared import comparison_facts, run_titles
from securefed.reporting.facts import Report
from securefed.reporting.glossary import GLOSSARY, LIMITS
from securefed.reporting.questions import answers
from securefed.reporting.risks import merged, risks
from securefed.reporting.run_facts import run_facts
from securefed.run_directory import ComparedRuns, Run


def subject_of(directory: Path) -> Run | ComparedRuns:
    """What a report can be made on: the run, or the comparison, in a directory.

    Raises:
        RunError: neither, or a damaged file.
    """
    if not directory.is_dir():
        raise RunError(f"there is no directory {directory}", hint="give a run directory")
    if (directory / CompareFile.NAME).is_file():
        return ComparedRuns.open(directory)
    if (directory / RunFile.NAME).is_file():
        return Run.open(directory)
    raise RunError(
        f"{directory} holds neither a run (run.json) nor a comparison (compare.json)",
        hint="give the directory that --out of securefed run or compare named",
    )


def report_on(
    subject: Run | ComparedRuns,
    inputs: list[InputFile],
    evidence: Mapping[Path, Sequence[Mismatch]],
    *,
    each_hospital: bool = False,
) -> Report:
    """The facts of a run or a comparison.

    Args:
        inputs: every file of its directory, hashed (integrity.inventory).
        evidence: a run's directory -> where its files contradict each other.
        each_hospital: with each hospital's own numbers, which stay in its folder otherwise.

    Raises:
        RunError: a damaged file that evidence does not name; run.json or summary.json.
    """
    compared = subject if isinstance(subject, ComparedRuns) else None
    titles = run_titles(compared.file) if compared else {}
    runs = [
        run_facts(
            run,
            subject.path,
            evidence[run.path],
            title=titles.get(
                run.path.relative_to(subject.path).as_posix(),
                f"{run.about.configuration}, {run.path.name}" if compared else "",
            ),
            each_hospital=each_hospital,
        )
        for run in runs_of(subject)
    ]
    return Report(
        kind="compare" if compared else "run",
        title=subject.path.resolve().name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        securefed=__version__,
        runs=runs,
        comparison=comparison_facts(compared.file, runs) if compared else None,
        risks=merged([risk for run in runs for risk in risks(run)]),
        questions=answers(runs),
        limits=LIMITS,
        glossary=GLOSSARY,
        inputs=inputs,
    )


def runs_of(subject: Run | ComparedRuns) -> tuple[Run, ...]:
    """The runs that a report is about."""
    return (subject,) if isinstance(subject, Run) else subject.runs
