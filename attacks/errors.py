"""Every error the audits raise, on top of `securefed.errors.SecureFedError`.

    AuditError             exit 1   root; carries `hint`: the way out
      InvalidScores        exit 1   scores, labels or counts that no statistic may be made from
      TooFewTargets        exit 1   valid data, but not enough of it for the figure asked for

Messages name counts and places; never a patient, a score of one patient, or a canary's coin.
"""

from securefed.errors import SecureFedError


class AuditError(SecureFedError):
    """What is wrong, with the offending value and place, and `hint`: the way out."""


class InvalidScores(AuditError):
    """Scores, labels or counts that no statistic may be made from."""


class TooFewTargets(AuditError):
    """The data are valid, but too few for the figure that was asked for."""
