"""A run as a value: its directory opened once, each file read once, when it is first asked for.

    run = Run.open(path)
    run.summary.auc, run.guarantee, run.rounds[-1].epsilon

A run in one process is in one directory. Of one among machines each party has its own folder, which
is a run with parts absent: `party` says whose, `here` which hospitals' parts it holds.

Nothing here writes. No patient's data is in any of the files it reads. Torch is imported when
weights or recorded messages are asked for, and not before.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from securefed.config import Settings
from securefed.errors import ConfigurationError, NothingLearned, RunError
from securefed.privacy import ledger_file, statement
from securefed.privacy.accounting import Guarantee, at_most
from securefed.privacy.statement import Statement
from securefed.record import memberships, metrics
from securefed.record.audit import AuditFile
from securefed.record.check_point import CheckPoint
from securefed.record.comparison import CompareFile
from securefed.record.memberships import Membership
from securefed.record.metrics import Metrics, RoundLine
from securefed.record.run_file import Party, RunFile, unit_in_words
from securefed.record.summary import HeldOut, HospitalSummary, Summary

if TYPE_CHECKING:
    from securefed.model.network import FusionNetwork
    from securefed.playback.observers import Observers
    from securefed.wire.agreement import FederationAgreement
    from securefed.wire.description import JobDescription


@dataclass(frozen=True)
class Run:
    """A run directory, finished or not.

    Attributes:
        about: run.json.
    """

    path: Path
    about: RunFile = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """The run in a directory.

        Raises:
            RunError: there is none, or run.json is damaged or of another schema.
        """
        if not (path / RunFile.NAME).is_file():
            raise RunError(
                f"{path} holds no run (no {RunFile.NAME})",
                hint="give the directory that --out named",
            )
        return cls(path, RunFile.read(path))

    @cached_property
    def settings(self) -> Settings:
        """The settings it was made with.

        Raises:
            RunError: they are not of this version.
        """
        return self.about.checked_settings(self.path)

    @property
    def hospitals(self) -> tuple[str, ...]:
        """Names of all that take part, in order."""
        return self.about.data.hospitals

    @property
    def party(self) -> Party:
        """Whose folder this is."""
        return self.about.party

    @property
    def here(self) -> tuple[str, ...]:
        """Names of the hospitals whose own folders are part of this one, in order."""
        if self.party == "everybody":
            return self.hospitals
        return tuple(name for name in self.hospitals if name == self.about.hospital)

    def hospital(self, name: str) -> Path:
        """The folder that stays in a hospital."""
        return self.path if self.party == "hospital" else self.path / "hospitals" / name

    @property
    def memberships(self) -> tuple[Membership, ...]:
        """The jobs of a run among machines, as this party joined them; none in one process.

        Raises:
            RunError: damaged.
        """
        return memberships.read(self.jobs)

    @property
    def jobs(self) -> Path:
        """The folder in which they are written down: a site's lies beside its runs."""
        if self.party != "hospital":
            return self.path
        run = self.path.resolve()
        return run.parent.parent / memberships.JOBS / run.name

    def place(self, name: str, file: str) -> str:
        """The path of a hospital's file, below the run's."""
        return (self.hospital(name) / file).relative_to(self.path).as_posix()

    @property
    def exposures(self) -> Path:
        """The folder with the recorded messages."""
        return self.path / "exposures"

    @property
    def finished(self) -> bool:
        """Whether its results have been written."""
        return (self.path / Summary.NAME).is_file()

    def require_finished(self) -> None:
        """Refuse a run that has no results yet.

        Raises:
            RunError: it has none here.
        """
        if not self.finished:
            ways = {
                "everybody": f"finish it with: securefed run --resume {self.path}",
                "server": f"finish it with: securefed server {self.path}",
                "hospital": "it goes on when the server asks and securefed client answers",
            }
            raise RunError(
                f"the run in {self.path} is not finished (no {Summary.NAME})",
                hint=ways[self.party],
            )

    @property
    def past_a_round(self) -> bool:
        """Whether a round has ended with its state on disk."""
        if self.party == "hospital":
            return any(self.path.glob(CheckPoint.parameters("*")))
        return self.finished or (self.path / CheckPoint.NAME).is_file()

    @cached_property
    def summary(self) -> Summary:
        """summary.json.

        Raises:
            RunError: the run is not finished, the file is damaged, or of another configuration; or
                this is a hospital's folder, where it is the hospital's own (`hospital_results`).
        """
        if self.party == "hospital":
            raise RunError(
                f"{self.path} is one hospital's part of a run: it has no results of everybody",
                hint="the server has them",
            )
        self.require_finished()
        summary = Summary.read(self.path)
        self._require_own(Summary.NAME, summary.configuration)
        return summary

    @cached_property
    def metrics(self) -> Metrics:
        """metrics.jsonl."""
        return metrics.read(self.path)

    @property
    def rounds(self) -> tuple[RoundLine, ...]:
        """Its training rounds in order; one repeated after a crash as it went the last time."""
        # The round after the last is the final evaluation; its scores are in the summary.
        return tuple(line for line in self.metrics.rounds if line.round <= self.summary.rounds)

    @cached_property
    def hospital_results(self) -> tuple[HospitalSummary, ...]:
        """The results of each hospital whose folder lies here, in order."""
        folders = map(self.hospital, self.here)
        return tuple(HospitalSummary.read(folder) for folder in folders if folder.is_dir())

    @cached_property
    def held_out(self) -> HeldOut | None:
        """held_out.json; None where the run scored nobody."""
        present = (self.path / HeldOut.NAME).is_file()
        return HeldOut.read(self.path) if present else None

    @cached_property
    def audit(self) -> AuditFile | None:
        """audit.json; None where nobody has audited the run.

        Raises:
            RunError: damaged, of another schema, or of another run.
        """
        if not (self.path / AuditFile.NAME).is_file():
            return None
        audit = AuditFile.read(self.path)
        self._require_own(AuditFile.NAME, audit.configuration)
        if audit.run != self.about.run:
            raise RunError(
                f"{self.path / AuditFile.NAME} is of another run ({audit.run})",
                hint="audit the run again",
            )
        return audit

    def _require_own(self, name: str, configuration: str) -> None:
        if configuration != self.about.configuration:
            raise RunError(
                f"{self.path / name} is of a {configuration} run, {RunFile.NAME} beside it of a "
                f"{self.about.configuration} one",
                hint="the files are not of one run; write that file again",
            )

    @property
    def learned(self) -> bool:
        """Whether a finished run has a model: some round opened a sum."""
        if self.party == "hospital":
            return self.finished  # it ends with the scores of a model
        return self.summary.rounds > self.summary.rounds_aborted

    @property
    def trained(self) -> int:
        """Rounds of a finished run."""
        if self.party != "hospital":
            return self.summary.rounds
        if self.settings.federation.patience is None:
            return self.settings.federation.rounds  # a server among machines trains all of them
        return max(map(CheckPoint.round_of, self.path.glob(CheckPoint.parameters("*"))), default=0)

    def require_learned(self) -> None:
        """Refuse a finished run that has no model.

        Raises:
            NothingLearned: none of its rounds opened a sum.
        """
        summary = self.summary
        if self.learned:
            return
        spent = at_most(summary.epsilon)
        lost = [line.aborted for line in self.metrics.rounds if line.aborted]
        raise NothingLearned(
            f"no round succeeded: {summary.rounds_aborted} of {summary.rounds} were aborted, and "
            "there is no model"
            + (f"; epsilon {spent} is spent all the same" if summary.epsilon else "")
            + (f"; the last: {lost[-1]}" if lost else ""),
            hint="metrics.jsonl and hospitals.log have the reasons; late: raise "
            "federation.timeout_s; an update that is not finite: lower training.learning_rate",
        )

    def complete(self) -> "Run":
        """This run, finished and whole: all results are read here and not when first asked for.

        Raises:
            NothingLearned: none of its rounds opened a sum, so that there is no model.
            RunError: it is not finished, or a file is missing or damaged.
        """
        self.require_learned()
        _ = (self.settings, self.summary, self.metrics, self.hospital_results, self.held_out)
        return self

    @cached_property
    def job(self) -> "JobDescription":
        """What everybody knew of the run, without the keys of its starts (`record.jobs`)."""
        from securefed.wire.description import JobDescription  # imports torch

        smallest = self.agreement.smallest_training_set if self.agreement else None
        return JobDescription(self.settings, self.about.run, self.hospitals, smallest)

    @cached_property
    def agreement(self) -> "FederationAgreement | None":
        """agreement.yaml, which a run among machines is of; None of a run in one process.

        Raises:
            ConfigurationError: it is missing or damaged.
        """
        from securefed.wire import agreement  # imports torch

        if self.party == "everybody":
            return None
        return agreement.read(self.path / agreement.NAME)

    def network(self) -> "FusionNetwork":
        """The released model, a copy of the caller's own, on the CPU.

        Raises:
            RunError: the run is not finished, or its weights are missing or of another shape.
        """
        from securefed.record import model_file  # imports torch

        return model_file.load(self.path, self.job.network)

    @cached_property
    def _observers(self) -> "Observers":
        from securefed.playback.observers import Observers
        from securefed.playback.recorded import RecordedRun

        folders = {name: self.hospital(name) for name in self.here}
        return Observers(RecordedRun(self.path, self.job, folders, self.about.hospital))

    def observers(self) -> "Observers":
        """What each observer saw, derived from the recorded messages once, when it is asked for."""
        return self._observers

    def ledger(self, hospital: str) -> Path:
        """Where a hospital's ledger lies, in a run with DP."""
        if self.party == "hospital":  # its site's, of all runs: SITE/runs/RUN
            return self.path.resolve().parent.parent / ledger_file.NAME
        return self.hospital(hospital) / ledger_file.NAME

    @cached_property
    def ledgers(self) -> dict[str, Statement]:
        """What the ledgers that are here hold, by hospital; empty without DP.

        A site's holds other runs too, at a delta of its own: of it, what is this run's at the run's
        own terms.

        Raises:
            PrivacyError: one is missing or damaged.
        """
        privacy = self.settings.privacy
        if not privacy.dp:
            return {}
        found = {name: statement.read(self.ledger(name)) for name in self.here}
        if self.party == "hospital":
            return {
                name: replace(
                    one.of_run(self.about.run), delta=privacy.delta, accountant=privacy.accountant
                )
                for name, one in found.items()
            }
        return found

    @cached_property
    def guarantee(self) -> Guarantee | None:
        """The weakest of any hospital, from the ledgers; None without DP.

        At a server, which has no ledger, what each of them holds the run to.

        Raises:
            PrivacyError: a ledger is missing or damaged.
        """
        each = [ledger.guarantee() for ledger in self.ledgers.values()]
        weakest = max(each, key=lambda one: one.counted, default=None)
        if self.party == "server":
            weakest = self.job.promised
        if weakest is None:
            return None
        return replace(weakest, unit=unit_in_words(weakest.unit, self.about.data.simulation))

    @cached_property
    def evaluation(self) -> Guarantee | None:
        """What scoring cost held-out patients: the weakest of any hospital; None if it was exact.

        Raises:
            PrivacyError: a ledger is missing or damaged.
        """
        each = [ledger.evaluation() for ledger in self.ledgers.values()]
        weakest = max((one for one in each if one), key=lambda one: one.counted, default=None)
        if self.party == "server":
            weakest = self.job.promised_evaluation
        if weakest is None:
            return None
        who = unit_in_words("patient", self.about.data.simulation)
        return replace(weakest, unit=f"held-out {who}")

    def to_pandas(self, table: Literal["rounds", "hospitals"] = "rounds") -> Any:
        """One row per round, or per hospital, as a pandas.DataFrame.

        Raises:
            ConfigurationError: pandas is not installed, or there is no such table.
        """
        rows: Sequence[RoundLine | HospitalSummary]
        if table == "rounds":
            rows = self.rounds
        elif table == "hospitals":
            rows = self.hospital_results
        else:
            raise ConfigurationError(
                f"there is no table {table!r}", hint='choose "rounds" or "hospitals"'
            )
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise ConfigurationError(
                "to_pandas needs pandas, which is not installed",
                hint="pip install pandas; the same rows are in .rounds and .hospital_results",
            ) from None
        return pandas.DataFrame([msgspec.structs.asdict(row) for row in rows])

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        about = self.about
        title = (
            f"<b>{html.escape(about.configuration)}</b>, {len(self.hospitals)} hospitals, "
            f"{html.escape(str(self.path))}"
        )
        if not self.finished:
            return f"<p>{title}; not finished</p>"
        lines: list[tuple[str, Summary | HospitalSummary]] = [("global", self.summary)]
        lines += [(each.name, each) for each in self.hospital_results]
        rows = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th>'
            + "".join(f"<td>{_figure(getattr(one, key))}</td>" for key in _SHOWN)
            + f"<td>{at_most(one.epsilon)}</td><td>{_interval(one.auc_ci95)}</td></tr>"
            for name, one in lines
        )
        columns = ("", *_SHOWN, "epsilon", "95% CI of AUC")
        head = "".join(f'<th scope="col">{key}</th>' for key in columns)
        privacy = self.guarantee
        told = f"largest: {privacy}" if privacy else "no differential privacy: no epsilon"
        return (
            f"<p>{title}, {self.summary.rounds} rounds</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"<p>{html.escape(told)}</p>"
        )


@dataclass(frozen=True)
class ComparedRuns:
    """A comparison's directory: compare.json, and the finished runs below it.

    Attributes:
        runs: as the rows of compare.json have them, then those that no row names, by path.
    """

    path: Path
    file: CompareFile = field(repr=False)
    runs: tuple[Run, ...] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> "ComparedRuns":
        """The comparison in a directory.

        Raises:
            RunError: compare.json or a run.json is missing, damaged, or of another schema.
        """
        # Folders of baselines hold no run.json, or no summary.json.
        file = CompareFile.read(path)
        folders = sorted(each.parent for each in path.rglob(Summary.NAME))
        rows = [path / folder for row in file.configurations for folder in row.runs]
        order = {folder: place for place, folder in enumerate(rows)}
        folders.sort(key=lambda folder: order.get(folder, len(order)))
        runs = (Run.open(folder) for folder in folders if (folder / RunFile.NAME).is_file())
        return cls(path, file, tuple(runs))


_SHOWN = ("auc", "accuracy", "sensitivity", "specificity", "f1")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else "-"
