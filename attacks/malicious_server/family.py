"""The malicious server as a family: checks of the client alone, on no observer's exposure."""

from attacks.family import Case, Family
from attacks.malicious_server import NAME
from attacks.malicious_server.attack import checks
from attacks.result import AttackResult, Progress


def controls(case: Case, progress: Progress) -> AttackResult:
    """Everything tried on clients as shipped, of every kind."""
    tried = tuple(check for client in case.subject.clients() for check in checks(client))
    progress(1.0)
    return AttackResult(checks=tried)


FAMILY = Family(name=NAME, controls=controls, weights=(1, 0, 0))
