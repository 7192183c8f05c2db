"""The report page: one HTML file that opens offline and sends nothing anywhere.

The page is drawn from report.json alone, plus the picture files that it names, which are embedded.
Its Content-Security-Policy allows exactly the one style sheet and the one script in it, by their
hashes, and images from data: addresses; even if a file of the run carried markup past the template
engine's escaping, the browser would load and run nothing.
"""

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from securefed.errors import RunError
from securefed.files import read_bounded
from securefed.privacy.accounting import at_least, at_most
from securefed.record.audit import CHECKED
from securefed.reporting import charts, threshold_charts, words
from securefed.reporting.calibrated import calibration_in_words
from securefed.reporting.compared import ALARMS
from securefed.reporting.compared_figures import figures
from securefed.reporting.egress import STAGES
from securefed.reporting.facts import ClassFacts, Report, RunFacts
from securefed.reporting.glossary import GLOSSARY
from securefed.reporting.site_facts import SiteReport
from securefed.reporting.unmeasured import unjudged, unmeasured
from securefed.wording import command_line, counted, first_of

LARGEST_PICTURE = 4 * 2**20  # bytes
SIGNATURES = {".png": (b"\x89PNG\r\n\x1a\n", "image/png"), ".svg": (b"", "image/svg+xml")}
SHOWN_RISKS = 3
SHOWN_ROWS = 16  # of a comparison, on its printed first page
SHOWN_COMMANDS = 2  # of a risk that many runs share
# What a printed summary explains, where nobody can point at a word.
SUMMARY_WORDS = ("AUC", "coalition", "epsilon", "outsider", "peer", "secure aggregation")
MANY_RUNS = 4  # more go into a table, so that the verdicts stay on one screen


def page(
    report: Report | SiteReport, directory: Path, *, fingerprint: str, signer: str, opened: bool
) -> str:
    """The HTML of a report.

    Args:
        directory: the reported one, for pictures.
        fingerprint, signer: SHA-256 of report.json and the public key that signed it, both hex.
        opened: unfold everything, for print.

    Raises:
        RunError: a picture is missing, too large, or not what its name says.
    """
    templates = environment()
    style = templates.get_template("style.css.j2").render()
    script = templates.get_template("page.js").render()
    common = {
        "report": report,
        "style": Markup(style),  # noqa: S704  # our own file
        "script": Markup(script),  # noqa: S704  # our own file
        "policy": content_security_policy(style, script),
        "fingerprint": fingerprint,
        "signer": signer,
        "opened": opened,
        "stages": STAGES,
    }
    if isinstance(report, SiteReport):
        return templates.get_template("site.html.j2").render(
            **common,
            verified=report.place,
            brief=False,
            charts=_site_charts(report),
            pictures=_pictures(report, directory),
        )
    folders = [directory / run.folder for run in report.runs]
    # A comparison of many runs would carry hundreds; each run's own page has them.
    shown = report.kind == "run"
    return templates.get_template("page.html.j2").render(
        **common,
        verified=report.title,
        brief=report.comparison and opened,
        charts=[_charts(run) for run in report.runs],
        compared_figures=figures(report.comparison) if report.comparison else [],
        pictures=[
            _pictures(run, folder) if shown else []
            for run, folder in zip(report.runs, folders, strict=True)
        ],
        shown_risks=SHOWN_RISKS,
        shown_commands=SHOWN_COMMANDS,
        shown_rows=SHOWN_ROWS,
        summary_words=SUMMARY_WORDS,
        alarms=ALARMS,
        many=MANY_RUNS,
    )


def content_security_policy(style: str, script: str) -> str:
    """Nothing but this style, this script and embedded images."""
    return (
        f"default-src 'none'; style-src '{_csp_hash(style)}'; script-src '{_csp_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def environment() -> Environment:
    """Where templates come from, escaped, and what they can use."""
    made = Environment(
        loader=PackageLoader("securefed.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": words.number,
        "figure": words.figure,
        "threshold": words.threshold,
        "limits": words.limits,
        "span": words.span,
        "first_of": first_of,
        "moment": words.moment,
        "size": words.size,
        "seconds": words.seconds,
        "at_most": at_most,
        "at_least": at_least,
        "counted": counted,
        "calibrated": calibration_in_words,
        "sensitivity_at": charts.sensitivity_at,
        "unjudged": unjudged,
        "unmeasured": unmeasured,
    }
    made.globals |= {"term": term, "checked": CHECKED, "command": command_line}
    return made


def term(word: str, shown: str | None = None) -> Markup:
    """A word of the glossary with its meaning on hover and focus."""
    meaning = next(each.meaning for each in GLOSSARY if each.word == word)
    return Markup('<span class="term" tabindex="0">{}<span role="tooltip">{}</span></span>').format(
        shown or word, meaning
    )


def _charts(run: RunFacts) -> dict[str, Any]:
    u = run.utility
    budget = max((ledger.budget or 0.0 for ledger in run.ledgers), default=0.0) or None
    return {
        "training": charts.training(run.curve, run.rounds, budget),
        "roc": charts.roc(u.roc, u.auc, u.sensitivity, u.specificity),
        "classes": [(each.name, curve) for each in u.classes if (curve := _class_curve(each))],
        "reliability": threshold_charts.reliability(u.thresholds.reliability)
        if u.thresholds
        else "",
        "net_benefit": threshold_charts.net_benefit(u.thresholds.decision_curve)
        if u.thresholds
        else "",
        "egress": charts.egress_bars(run.egress) if run.egress else "",
        "forest": charts.forest(run.audit.judgements) if run.audit else "",
    }


def _class_curve(one: ClassFacts) -> Markup:
    where = f"where {one.name} is called"
    return charts.roc(one.roc, one.auc, one.sensitivity, one.specificity, where)


def _site_charts(report: SiteReport) -> dict[str, Any]:
    return {
        "egress": charts.egress_bars(report.egress),
        "forest": charts.forest(report.audit.judgements) if report.audit else "",
    }


def _pictures(run: RunFacts | SiteReport, folder: Path) -> list[tuple[str, str]]:
    if run.audit is None:
        return []
    # A page travels; scans of real patients, true or reconstructed, stay where the run is.
    synthetic = run.simulation == "phantom"
    return [
        (picture_address(folder / picture.file), picture.caption)
        for picture in run.audit.pictures
        if synthetic or not picture.patient
    ]


def page_of_pictures(template: str, pictures: Iterable[Path], **told: Any) -> str:
    """A page without a script, with pictures in it.

    Args:
        template: which gets their `addresses`, in this order, and what it is `told`.

    Raises:
        RunError: a picture cannot be read.
    """
    style = environment().get_template("style.css.j2").render()
    return (
        environment()
        .get_template(template)
        .render(
            told,
            addresses=[picture_address(each) for each in pictures],
            style=Markup(style),  # noqa: S704  # our own file
            policy=content_security_policy(style, ""),
        )
    )


def picture_address(path: Path) -> str:
    """A PNG or SVG file as a data: address.

    Raises:
        RunError: missing, too large, or not of the kind its name says.
    """
    signature, kind = SIGNATURES[path.suffix.lower()]
    content = read_bounded(path, LARGEST_PICTURE)
    if not content.startswith(signature) or (not signature and b"<svg" not in content[:4096]):
        raise RunError(f"{path} is not a picture of the kind its name says")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
