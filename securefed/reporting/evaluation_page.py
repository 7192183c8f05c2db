"""The page of an evaluation: one HTML file, drawn from evaluation.json alone; it asks for nothing.

In the style of the report page, and with the same rule for figures that few patients cannot carry.
"""

import hashlib
from typing import Any

from markupsafe import Markup

from securefed import __version__
from securefed.record.evaluation import EvaluationFile, Figures, Group
from securefed.reporting import charts, threshold_charts
from securefed.reporting.glossary import GLOSSARY
from securefed.reporting.page import content_security_policy, environment
from securefed.reporting.rates import too_wide
from securefed.reporting.utility import cautions

NAME = "evaluation.html"
WORDS = (
    "AUC",
    "confidence interval",
    "decision curve",
    "expected calibration error",
    "net benefit",
    "reliability diagram",
    "ROC",
    "sensitivity",
    "specificity",
)


def evaluation_page(found: EvaluationFile) -> str:
    """The HTML."""
    templates = environment()
    style = templates.get_template("style.css.j2").render()
    script = templates.get_template("page.js").render()
    everybody = found.everybody
    half = everybody.operating_points[0]
    rates = {
        "AUC": (everybody.auc, everybody.auc_ci95),
        "sensitivity": (half.sensitivity.value, half.sensitivity.ci95),
        "specificity": (half.specificity.value, half.specificity.ci95),
    }
    return templates.get_template("evaluation.html.j2").render(
        found=found,
        everybody=everybody,
        rates={name: (*each, too_wide(each[1])) for name, each in rates.items()},
        cautions=list(
            cautions(everybody.auc, everybody.auc_ci95, everybody.confusion, noised=False)
        ),
        groups=[
            (each, threshold_charts.name_of(each), _charts(each.figures) if each.figures else {})
            for each in found.groups
        ],
        forest=threshold_charts.aucs(found.groups),
        withheld=sum(each.withheld for each in found.groups),
        unsure=_unsure,
        glossary=[each for each in GLOSSARY if each.word in WORDS],
        version=__version__,
        fingerprint=hashlib.sha256(found.encode()).hexdigest(),
        style=Markup(style),  # noqa: S704  # our own file
        script=Markup(script),  # noqa: S704  # our own file
        policy=content_security_policy(style, script),
    )


def _charts(figures: Figures) -> dict[str, Any]:
    half = figures.operating_points[0]
    return {
        "roc": charts.roc(figures.roc, figures.auc, half.sensitivity.value, half.specificity.value),
        "reliability": threshold_charts.reliability(figures.reliability),
        "net_benefit": threshold_charts.net_benefit(figures.decision_curve),
    }


def _unsure(group: Group) -> bool:
    return group.figures is None or too_wide(group.figures.auc_ci95)
