"""What a hospital refuses a malicious server, for who does not read the program.

An audit writes down the name of the error with which a hospital answered. Here each has its words;
one that is new is named as it is, and a test asks for its words.
"""

import re
from collections.abc import Sequence

from securefed.record.audit import Check
from securefed.reporting.attack_facts import Attempt

# How a hospital was set up when it was tried; stands at the end of a check's name.
SETUP = re.compile(r" \((plain|secure)\)\Z")

WORDS = {
    "RunError": "the request does not fit this run",
    "Unplanned": "the public plan of the run does not have this step",
    "AskedBefore": "the same was asked in a sum of other hospitals, and two sums can be subtracted",
    "NotEverybody": "held-out counts open in a sum of all hospitals only",
    "PrivacyError": "the hospital's own privacy rules forbid it",
    "BudgetExceeded": "the hospital's budget of epsilon does not allow it",
    "OldLedger": "the hospital's ledger is an older version than one that was seen",
    "PolicyRefused": "the hospital's own policy does not allow it",
    "ConfigurationError": "the settings are not those that the hospital agreed to",
    "DataError": "the hospital's patients do not allow it",
    "ProtocolError": "the protocol does not allow it",
    "InvalidRules": "the rules announced are unsafe",
    "ThresholdTooLow": "too few hospitals would be enough to open the sum",
    "RulesMismatch": "the rules announced are not those agreed",
    "UnplannedCohort": "these are not the hospitals that the public plan has for the round",
    "WouldOverflow": "the sum could wrap around",
    "InvalidIdentity": "the list of hospitals' keys cannot be used",
    "MalformedMessage": "the message is not well formed",
    "OversizedMessage": "the message is longer than an honest one can be",
    "OutOfOrder": "the message comes at the wrong time",
    "WrongRound": "the message is of another round",
    "RoundsSkipped": "rounds were left out, among which the server could choose",
    "Replay": "the round was answered already",
    "WrongStage": "a step of the round was skipped or repeated",
    "SecondUnmask": "shares were asked for twice, and two answers open one hospital's update",
    "UntrustedMessage": "somebody lied, or was impersonated",
    "UnknownSender": "a hospital that is not in the round",
    "DuplicateSender": "one hospital named twice",
    "BadSignature": "a signature that the hospital named did not make",
    "LowOrderPoint": "a key that would make the secret predictable",
    "NonCanonicalKey": "a second spelling of a key",
    "DuplicateKey": "one key offered by two hospitals",
    "BadCiphertext": "a sealed share that was altered",
    "BadShare": "a share that is not the one dealt",
    "CohortEquivocation": "hospitals were shown different things",
    "StatementMismatch": "the answer is to something else than was asked",
    "AliveAndDropped": "one hospital listed as present and as missing: its update would open",
    "ThresholdMissed": "too few hospitals were left; nothing opened",
    "BadVector": "the hospital's own numbers cannot be summed",
    "ValueOutOfRange": "a number beyond the range agreed",
    "NotFinite": "a number that is none",
}


def attempts(checks: Sequence[Check]) -> list[Attempt]:
    """Checks by what was tried, in their order."""
    by_name: dict[str, dict[str, Check]] = {}
    for check in checks:
        setup = SETUP.search(check.name)
        name = check.name[: setup.start()] if setup else check.name
        by_name.setdefault(name, {})[setup[1] if setup else "plain"] = check
    return [
        Attempt(name, tried.get("plain"), tried.get("secure"), _says(tried))
        for name, tried in by_name.items()
    ]


def _says(tried: dict[str, Check]) -> str:
    clear, masked = (answer(tried[key]) if key in tried else "" for key in ("plain", "secure"))
    if clear and masked and clear != masked:
        return f"in the clear: {clear}; with masks: {masked}"
    return clear or masked


def answer(check: Check) -> str:
    """What came of one check, in words."""
    told = WORDS.get(check.detail, check.detail)
    if not check.refused:
        return f"accepted: {told}" if told not in ("", "accepted") else "accepted"
    if " " in check.detail:  # not refused by name: what was tried gave the server nothing
        return f"came to nothing: {told}"
    return f"refused: {told}" if told else "refused"
