"""model-card.md: a model card in words, under the headings of Mitchell et al. (2019).

Everything is taken from the card's values; texts that come from files are escaped, since a name of
a policy or the source of weights may hold what Markdown would act on.
"""

import re
from collections.abc import Iterator

from securefed.model.calibration import Calibration
from securefed.privacy.accounting import at_most
from securefed.record.evaluation import Interval
from securefed.record.model_card import Audited, Evaluated, ModelCard, Training
from securefed.wording import counted, listed

_ACTIVE = re.compile(r"([\\`*_\[\]<>|#~])")


def in_words(card: ModelCard) -> str:
    """The card as Markdown."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: ModelCard) -> Iterator[str]:
    yield f"# Model card: {card.details.model[:16]}"
    yield ""
    if card.do_not_use:
        yield f"> **Do not use on patients:** {_text(listed(card.do_not_use))}."
        yield ""
    sections = {
        "Model details": _details(card),
        "Intended use": card.intended_use,
        "Factors": FACTORS,
        "Training data": _training(card.training),
        "Metrics": (*METRICS, _calibration(card.calibration)),
        "Evaluation data and quantitative analyses": _analyses(card),
        "Ethical considerations": _privacy(card),
        "Audits": _audit(card.audit),
        "Caveats and recommendations": card.limits,
    }
    for heading, entries in sections.items():
        yield f"## {heading}"
        yield ""
        yield from (f"- {entry}" for entry in entries)
        yield ""
    yield "Made by securefed from the records of the run; the same stands in model-card.json."


FACTORS = (
    "Modalities that a patient lacks; sites. Evaluations have both, and any column of a manifest "
    "that was asked for: age, sex, scanner.",
)
METRICS = (
    "AUC: area under the ROC curve, with Newcombe's 95% interval. Sensitivity and specificity at "
    "probability one half, with Wilson's where they were evaluated. Intervals are over patients.",
)


def _details(card: ModelCard) -> Iterator[str]:
    one = card.details
    yield f"File: `model.safetensors`, SHA-256 `{one.model}`"
    made = f", by securefed {_text(one.securefed)}" if one.securefed else ""
    if one.run:
        yield f"Made in the run {_text(one.run)}{made}, by federated training"
    yield (
        f"Takes {_text(listed(one.modalities))}, each of which may be missing but not all, at "
        f"{one.image_size} pixels; at most {counted(one.max_slices, 'slice')} of a {one.label_of}"
    )
    asked = f"each of {listed(one.classes)}" if one.classes else "a tumour"
    yield f"Says how probable {asked} is, of a {one.label_of}"
    yield f"An encoder `{_text(one.encoder)}` for each modality, fused by cross-attention"
    if one.personal:
        yield (
            "Parts that were trained stay with each hospital (`personal.safetensors`): held-out "
            "figures are of the file with these laid over it, and the file alone may do worse"
        )
    if one.initialisation:
        yield f"Encoders started from: {_text(one.initialisation)}"
    for each in one.weights:
        told = [f"`{each.sha256}`", each.source and _text(each.source)]
        licence = f", licence {_text(each.licence)}" if each.licence else ""
        yield f"Weights: {', '.join(filter(None, told))}{licence}"


def _training(of: Training | None) -> Iterator[str]:
    if of is None:
        yield "Not known from the model's file alone."
        return
    if of.simulation:
        yield f"Made-up patients, not people: {_text(of.simulation)}"
    whose = "" if of.patients is None else f", {counted(of.patients, 'patient')} as they declared"
    yield f"Of {counted(of.hospitals, 'hospital')}{whose}; no scan left its hospital"
    yield f"{counted(of.rounds, 'round')} of training, configuration {of.configuration}"


def _analyses(card: ModelCard) -> Iterator[str]:
    held_out = card.held_out
    if held_out is None:
        yield "Held-out patients of the run: no figures on this card."
    else:
        noise = ", counted with noise" if held_out.noise is not None else ""
        yield (
            f"{counted(held_out.patients, 'held-out patient')} of the same hospitals{noise}: AUC "
            f"{_figure(held_out.auc, held_out.auc_ci95)}, sensitivity "
            f"{_figure(held_out.sensitivity, held_out.sensitivity_ci95)}, "
            f"specificity {_figure(held_out.specificity, held_out.specificity_ci95)}"
            + (", each a mean over the classes" if held_out.classes else "")
        )
        for one in held_out.classes:
            yield (
                f"{one.name} against the rest: AUC {_figure(one.auc, one.auc_ci95)}, sensitivity "
                f"{_figure(one.sensitivity)}, specificity {_figure(one.specificity)}"
            )
    for each in card.evaluations:
        yield _evaluation(each)
    if not card.evaluations:
        yield "Nobody has had an evaluation on other patients added."


def _calibration(of: Calibration | None) -> str:
    found = of and of.temperature
    if found:
        return (
            "Probabilities are calibrated by a temperature, fitted to the counts of held-out "
            f"patients: {_figure(found.value, found.ci95)}. An evaluation says whether that holds "
            "for others."
        )
    why = f" ({_text(of.why_not)})" if of else ""
    return f"Probabilities are the network's own, and not calibrated{why}."


def _evaluation(of: Evaluated) -> str:
    trained = {
        None: "whether they trained cannot be told",
        False: "none of them trained",
        True: "**some of them trained: too good**",
    }[of.trained]
    rates = (
        f"{name} {_figure(rate.value, rate.ci95)}"
        for name, rate in (("sensitivity", of.sensitivity), ("specificity", of.specificity))
    )
    return (
        f"Evaluation on {counted(of.patients, 'patient')}, {of.positives} of them ill (data "
        f"`{of.data}`; {trained}): AUC {_figure(of.auc, of.auc_ci95)}, {', '.join(rates)}, "
        f"expected calibration error {of.calibration_error:.3f}. No epsilon covers it."
    )


def _privacy(card: ModelCard) -> Iterator[str]:
    privacy = card.privacy
    yield f"What training promises: {_text(privacy.sentence)}"
    if privacy.unit:
        yield f"The promise is per {_text(privacy.unit)}"
    if card.training and card.training.configuration in ("secure", "dp+secure"):
        yield "The server saw sums of updates of several hospitals, not single ones"
    elif card.training:
        yield "The server saw each hospital's update"
    if card.held_out:
        bound = privacy.held_out_epsilon
        yield "Held-out patients: " + (
            "their counts are exact, and no epsilon covers them"
            if bound is None
            else f"epsilon {at_most(bound)} of their own"
        )


def _audit(of: Audited | None) -> Iterator[str]:
    if of is None:
        yield "Nobody has audited the run."
        return
    part = f", of {_text(listed(of.asked))} alone" if of.asked else ""
    cut = ", interrupted" if of.interrupted else ""
    yield f"**{of.verdict}** by the policy {_text(of.policy)}, {of.effort} effort{part}{cut}"
    for name, verdict in of.families.items():
        yield f"{_text(name)}: {verdict or 'reported, not judged'}"


def _figure(value: float | None, interval: Interval | None = None) -> str:
    if value is None:
        return "not known"
    low_high = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return f"{value:.3f}{low_high}"


def _text(said: str) -> str:
    """A text as it stands, on one line, whatever Markdown would make of it."""
    return _ACTIVE.sub(r"\\\1", " ".join(said.split()))
