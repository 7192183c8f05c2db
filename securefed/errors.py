"""Every error a user of `securefed` can meet.

    SecureFedError              exit 1   something failed while running
      ConfigurationError        exit 2   the settings or the command line are wrong
      DataError                 exit 1   a scan, folder or manifest cannot be used
      PrivacyError              exit 1   the privacy rules forbid what was asked
        BudgetExceeded          exit 1   the ledger has no epsilon left for it
        OldLedger               exit 1   the ledger is older than, or another than, what was seen
        PolicyRefused           exit 1   a hospital's own policy does not allow it
      RunError                  exit 1   a run directory or a running federation is broken
        RoundAborted            exit 1   no sum came of a round; the parameters stay
        Unplanned               exit 1   asked for what the public plan does not hold
        AskedBefore             exit 1   asked again in another company: two sums to subtract
        NotEverybody            exit 1   exact counts, and somebody is missing from the sum
        NothingLearned          exit 1   no round of a run opened a sum: there is no model
        DiskFull                exit 1   no space to write; what was finished is on disk
        Interrupted             exit 130 Ctrl-C, SIGTERM or SIGHUP; finished rounds are saved
      PolicyNotMet              exit 3   an audit found more than its policy allows

The command line prints `securefed: MESSAGE` and `hint: HINT` on stderr, without a traceback.
"""


class SecureFedError(Exception):
    """What is wrong, with the offending value and place, and `hint`: the way out."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigurationError(SecureFedError):
    """The settings contradict each other, are unknown, or have the wrong type."""

    exit_code = 2


class DataError(SecureFedError):
    """A scan, folder or manifest cannot be used as it is."""


class PrivacyError(SecureFedError):
    """The privacy rules forbid what was asked."""


class BudgetExceeded(PrivacyError):
    """The ledger would pass its epsilon; refused before any data was touched."""


class OldLedger(PrivacyError):
    """A ledger is an older version than one that was seen, or another: epsilon would be forgotten.

    The name of this class is the reason code that a server and a hospital give each other.
    """


class PolicyRefused(PrivacyError):
    """A hospital's own policy does not allow what was asked; `key` is the policy's.

    The key may be told to the server, the message stays at the hospital.
    """

    def __init__(self, message: str, *, hint: str | None = None, key: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key = key


class RunError(SecureFedError):
    """A run directory is unusable, or a running federation cannot go on."""


class RoundAborted(RunError):
    """No sum came of a round: too few hospitals answered, or what opened is no sum of theirs.

    `opened` says that hospitals were asked for what opens it: they will not answer the same in
    another company, and nobody can tell them that it came to nothing.
    """

    def __init__(self, message: str, *, hint: str | None = None, opened: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.opened = opened


class Unplanned(RunError):
    """A hospital was asked for what the public plan does not hold; nothing was computed."""


class AskedBefore(RunError):
    """A hospital that helped to open a sum was asked the same in a sum of other hospitals.

    Or it has scored its held-out patients for the run, and was asked to under other parameters.
    """


class NotEverybody(RunError):
    """Exact counts open in a sum of all hospitals or not at all."""


class NothingLearned(RunError):
    """No round of a run opened a sum; the summary says so, and no model is written."""


class DiskFull(RunError):
    """There is no space for a file; what was written before is whole."""


class Interrupted(RunError):
    """Somebody asked to stop: Ctrl-C, SIGTERM or SIGHUP; what was finished is on disk."""

    exit_code = 130


class PolicyNotMet(SecureFedError):
    """An audit's verdict is FAIL; the findings are in audit.json."""

    exit_code = 3
