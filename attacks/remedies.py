"""What would settle an answer that an audit left open: the next command, or what it cannot know.

An attack that knows its own circumstances says so in its finding; the rest follows from why the
answer is open.
"""

from attacks.findings import Finding, LowerBound, Surprise
from attacks.policy import Policy, Threshold

EFFORT = "a higher effort attacks more patients; where all are attacked, only a run with more"
MISSING = "a run with more patients, held-out ones among them, or a policy that does not require it"


def remedy(finding: Finding, limit: Threshold | None, policy: Policy) -> str:
    """For a finding whose verdict is INCONCLUSIVE; "" where nothing is known that would help."""
    if finding.estimate is None:
        return finding.remedy or MISSING
    if isinstance(finding.estimate, LowerBound):
        if limit is None and policy.power(finding.attack) is None:
            return f"a policy with a minimum_power for {finding.attack!r}"
        return finding.remedy
    if limit is None:
        return "a policy with a threshold for it; at_most: null reports it without judging it"
    if isinstance(finding.estimate, Surprise):
        return ""
    return finding.remedy or EFFORT


def of_nothing(attack: str) -> str:
    """For a threshold that nobody's attack answered."""
    return f'an audit of this part alone, with --attack "{attack}"'
