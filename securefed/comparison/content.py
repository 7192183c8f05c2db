"""From everything that a comparison has so far to the content of compare.json."""

from dataclasses import dataclass, field

import msgspec

from securefed import __version__
from securefed.comparison.leakage import leakage
from securefed.comparison.plan import Case, Plan
from securefed.comparison.rows import Measured, row
from securefed.comparison.starting_report import STARTING_REPORT
from securefed.record.audit import AuditFile
from securefed.record.comparison import (
    Audited,
    BaselineRow,
    CompareFile,
    ConfigurationRow,
    DataEfficiency,
    Headline,
    Same,
    ShareRow,
)

SHARE_OF_FINAL = 0.95  # the AUC that counts as reached, of that with all patients

REMARKS = {
    "alone": "mean over hospitals, each scored on its own held-out patients",
    "pooled": "needs the data in one place: an upper bound, not an option",
    "late fusion": "mean logit of the models of one modality",
}
ONE_MODALITY = " only"  # how the baseline of a modality's name ends


@dataclass
class Evidence:
    """All that there is so far.

    Attributes:
        runs, audits: by case; audits by seed as well.
        audited: run directory -> its audit, as this or an earlier comparison made it.
        baselines: by privacy level (None without DP, else epsilon) and name.
        shares: by share of the training patients.
        same: per seed, fingerprints of what its runs share.
        notes: for the user.
    """

    runs: dict[Case, list[Measured]] = field(default_factory=dict)
    audits: dict[Case, dict[int, AuditFile]] = field(default_factory=dict)
    audited: dict[str, Audited] = field(default_factory=dict)
    baselines: dict[tuple[float | None, str], list[Measured]] = field(default_factory=dict)
    shares: dict[float, list[Measured]] = field(default_factory=dict)
    same: list[Same] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def content(plan: Plan, evidence: Evidence, effort: str | None, complete: bool) -> CompareFile:
    """The content of compare.json.

    Args:
        effort: of the audits; None where there were none.
        complete: nothing is missing.
    """
    privacy, classes = plan.base.privacy, plan.base.task.classes
    return CompareFile(
        securefed=__version__,
        complete=complete,
        settings=plan.base.model_dump(mode="json"),
        seeds=plan.seeds,
        delta=privacy.delta,
        privacy_unit=privacy.unit,
        accountant=privacy.accountant,
        adjacency="add/remove",
        audit_effort=effort,
        audited=evidence.audited,
        same_within_a_seed=tuple(evidence.same),
        configurations=tuple(
            _configuration(case, measured, evidence, classes)
            for case, measured in evidence.runs.items()
        ),
        baselines=tuple(
            _baseline(name, level, measured, classes)
            for (level, name), measured in evidence.baselines.items()
        ),
        baselines_refused=plan.refused or None,
        data_efficiency=_data_efficiency(evidence) if complete and evidence.shares else None,
        starting_report=STARTING_REPORT,
        notes=tuple(evidence.notes),
    )


def _configuration(
    case: Case, measured: list[Measured], evidence: Evidence, classes: tuple[str, ...]
) -> ConfigurationRow:
    return ConfigurationRow(
        **msgspec.structs.asdict(row(case.name, case.epsilon, measured, classes=classes)),
        configuration=case.configuration,
        noise=measured[0].noise,  # a setting that all seeds share
        runs=tuple(f"seed-{each.seed}/{case.folder}" for each in measured),
        leakage=leakage(evidence.audits[case]) if case in evidence.audits else None,
    )


def _baseline(
    name: str, level: float | None, measured: list[Measured], classes: tuple[str, ...]
) -> BaselineRow:
    headline: Headline = "mean_auc" if name == "alone" else "auc"
    return BaselineRow(
        **msgspec.structs.asdict(row(name, level, measured, headline=headline, classes=classes)),
        privacy=level_text(level),
        remark=_remark(name),
    )


def _remark(name: str) -> str:
    kept = name.removesuffix(ONE_MODALITY)
    return REMARKS[name] if kept == name else f"patients without {kept.upper()} are left out"


def _data_efficiency(evidence: Evidence) -> DataEfficiency:
    rows = {share: row("", None, each) for share, each in sorted(evidence.shares.items())}
    aucs = {share: each.figures.auc.value for share, each in rows.items()}
    final = aucs[1.0]
    reached = [
        share
        for share, auc in aucs.items()
        if final is not None and auc is not None and auc >= SHARE_OF_FINAL * final
    ]
    return DataEfficiency(
        configuration="plain",
        shares=tuple(
            ShareRow(share=share, seeds=each.seeds, figures=each.figures)
            for share, each in rows.items()
        ),
        target=None if final is None else SHARE_OF_FINAL * final,
        smallest_tried_share_that_reaches_it=min(reached, default=None),
    )


def level_text(level: float | None) -> str:
    """A privacy level in words."""
    return "no DP" if level is None else f"epsilon {level:g}"
