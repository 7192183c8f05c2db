"""What the figures of an audit are, and what those of a canary test say beside each other."""

import re
from collections.abc import Iterable

from securefed.privacy.accounting import at_least, at_most
from securefed.record.audit import EpsilonTest
from securefed.reporting.words import number

WEAK = 0.5  # a test that notices half the noise missing less often than this says little
_RATE = re.compile(r"tpr at fpr ([0-9.e-]+)")
_METRICS = {
    "auc": "How well the attack tells members from others: the share of pairs of one member and "
    "one other that it orders rightly. 0.5 is guessing, 1 is certainty.",
    "identification": "Share of patients whom the attack picks out among decoys, people who look "
    "as likely. 0 is nobody.",
    "surprise": "How unlikely an honest run would look as this one does, as a power of ten: 2 is "
    "one chance in 100, 4 one in 10,000. A small figure is what an honest run shows.",
    "epsilon": "A lower bound on the true epsilon, read off what was sent; the threshold is the "
    "claim, an upper bound. Over the claim it proves the claim false. Under it nothing is proven: "
    "how much a fault would have shown is the power named beside it, and an epsilon smaller than "
    "the least that the test could have seen would not have shown at all.",
}


def metrics(names: Iterable[str]) -> dict[str, str]:
    """Metric -> what it is, for those that occur and have words."""
    found = {}
    for name in dict.fromkeys(names):
        if rate := _RATE.fullmatch(name):
            found[name] = (
                f"Share of members whom the attack names while it wrongly names {rate[1]} of the "
                f"others. {rate[1]} is guessing."
            )
        elif name in _METRICS:
            found[name] = _METRICS[name]
    return found


def says(test: EpsilonTest) -> str:
    """What the figures of one observer's canary test mean beside each other."""
    claimed, estimate = test.claimed_epsilon, test.point_estimate
    parts = [_against_the_claim(test.certified, claimed), _could_have_seen(test)]
    if test.power_halved_noise is not None:
        weak = ": a weak test" if test.power_halved_noise < WEAK else ""
        parts.append(
            "Half of the noise missing would have been noticed with a chance of "
            f"{number(test.power_halved_noise)}{weak}."
        )
    if estimate is not None and claimed is not None and estimate > claimed:
        parts.append(
            f"The point estimate {number(estimate)} is over the claim, and contradicts nothing: it "
            "has no confidence behind it and scatters to both sides of the truth. Only a certified "
            "bound over the claim does."
        )
    return " ".join(part for part in parts if part)


def _against_the_claim(certified: float, claimed: float | None) -> str:
    if claimed is None:
        return f"At least {at_least(certified)} was lost; nothing is claimed to hold it against."
    if certified > claimed:
        return (
            f"The claim is false: at least {at_least(certified)} was lost, more than the "
            f"{at_most(claimed)} claimed."
        )
    if certified <= 0:
        return "Nothing was certified, so nothing contradicts the claim."
    return (
        f"At least {at_least(certified)} was lost, which is within the {at_most(claimed)} claimed: "
        "no contradiction, and no confirmation either."
    )


def _could_have_seen(test: EpsilonTest) -> str:
    least, claimed = test.visible_epsilon, test.claimed_epsilon
    if least is None:
        return "This observer could not have seen any epsilon, however large."
    seen = f"four times in five it sees a true epsilon of {number(least)} or more"
    if claimed is not None and least > claimed:
        return f"The test is blind to the claim: {seen}, and claimed is less."
    if 0 < test.certified < least:
        return f"As tests go: {seen}; what it certifies is smaller, to be right 95 times in 100."
    return f"As tests go: {seen}; a smaller one may stay hidden."
