"""compare.json: everything the comparison found, as plain values (docs/compare.md has every key).

Rows of configurations and of baselines have the same figures, so that they make one table.
"""

from dataclasses import dataclass, field
from typing import Any

from securefed import __version__
from securefed.comparison.leakage import leakage
from securefed.comparison.plan import Case, Plan
from securefed.comparison.rows import Measured, row
from securefed.comparison.starting_report import starting_report

SCHEMA = 1
SHARE_OF_FINAL = 0.95  # the AUC that counts as reached, of that with all patients

REMARKS = {
    "alone": "mean over hospitals, each scored on its own held-out patients",
    "pooled": "needs the data in one place: an upper bound, not an option",
    "ct only": "patients without CT are left out",
    "mri only": "patients without MRI are left out",
    "late fusion": "mean logit of ct only and mri only",
}


@dataclass
class Found:
    """What is known so far.

    Attributes:
        runs, audits: by case; audits by seed as well.
        audited: run directory -> effort and SHA-256 of its audit.json.
        baselines: by privacy level (None without DP, else epsilon) and name.
        shares: by share of the training patients.
        same: per seed, fingerprints of what its runs share.
        notes: for the user.
    """

    runs: dict[Case, list[Measured]] = field(default_factory=dict)
    audits: dict[Case, dict[int, dict[str, Any]]] = field(default_factory=dict)
    audited: dict[str, dict[str, str]] = field(default_factory=dict)
    baselines: dict[tuple[float | None, str], list[Measured]] = field(default_factory=dict)
    shares: dict[float, list[Measured]] = field(default_factory=dict)
    same: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def content(plan: Plan, found: Found, effort: str | None, complete: bool) -> dict[str, Any]:
    """The content of compare.json.

    Args:
        effort: of the audits; None where there were none.
        complete: nothing is missing.
    """
    privacy = plan.base.privacy
    return {
        "schema": SCHEMA,
        "securefed": __version__,
        "complete": complete,
        "settings": plan.base.model_dump(mode="json"),
        "seeds": list(plan.seeds),
        "delta": privacy.delta,
        "privacy_unit": privacy.unit,
        "accountant": privacy.accountant,
        "adjacency": "add/remove",
        "audit_effort": effort,
        "audited": found.audited,
        "same_within_a_seed": found.same,
        "configurations": [
            {
                "name": case.name,
                "configuration": case.configuration,
                "epsilon_budget": case.epsilon,
                "runs": [f"seed-{each.seed}/{case.folder}" for each in measured],
                **row(measured),
                "leakage": leakage(found.audits[case]) if case in found.audits else None,
            }
            for case, measured in found.runs.items()
        ],
        "baselines": [
            {
                "name": name,
                "privacy": level_text(level),
                "epsilon_budget": level,
                "remark": REMARKS[name],
                **row(measured, headline="mean_auc" if name == "alone" else "auc"),
            }
            for (level, name), measured in found.baselines.items()
        ],
        "baselines_refused": plan.refused or None,
        "data_efficiency": _data_efficiency(found) if complete and found.shares else None,
        "starting_report": starting_report(),
        "notes": found.notes,
    }


def _data_efficiency(found: Found) -> dict[str, Any]:
    rows = {share: row(measured) for share, measured in sorted(found.shares.items())}
    aucs = {share: each["figures"]["auc"]["value"] for share, each in rows.items()}
    final = aucs[1.0]
    reached = [
        share
        for share, auc in aucs.items()
        if final is not None and auc is not None and auc >= SHARE_OF_FINAL * final
    ]
    return {
        "configuration": "plain",
        "shares": [
            {"share": share, **{key: each[key] for key in ("seeds", "figures")}}
            for share, each in rows.items()
        ],
        "target": None if final is None else SHARE_OF_FINAL * final,
        "smallest_tried_share_that_reaches_it": min(reached, default=None),
    }


def level_text(level: float | None) -> str:
    """A privacy level in words."""
    return "no DP" if level is None else f"epsilon {level:g}"
