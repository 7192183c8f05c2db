"""The checks of a run's files against each other: one list, for everybody who relies on them.

A run directory is evidence, and most of what is in it stands there twice: the settings in run.json
and with every hospital, what was trained in metrics, recordings, check points and ledgers, results
in the summary and in the recorded sums. Whatever contradicts something else is named, with its
file, and nothing is claimed from it.

Not protected against: whoever changes all copies alike. The ledgers are the hospitals' own and the
messages are signed by nobody who is still there; a run directory is believed as far as its keepers
are. The report's signature protects what was there when it was made.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import get_args

from protocols.errors import ProtocolError
from securefed.errors import RunError, SecureFedError
from securefed.evidence import (
    agreements,
    audits,
    cards,
    departures,
    described,
    files,
    held_out,
    known_answers,
    masks,
    memories,
    messages,
    policies,
    results,
    spending,
)
from securefed.privacy import ledger_file
from securefed.record import egress, model_file
from securefed.record.audit import AuditFile
from securefed.record.inventory import Inventory
from securefed.record.metrics import NAME as METRICS
from securefed.record.mismatch import Mismatch
from securefed.record.model_card import ModelCard
from securefed.record.noised_scores import NoisedAnswer
from securefed.record.recording import BYTES
from securefed.record.run_file import Party, RunFile
from securefed.record.summary import HeldOut, Summary
from securefed.run_directory import Run
from securefed.wire import openings

AGAIN = (AuditFile.NAME, ModelCard.NAME)  # what an audit writes anew
SHOWN = 5  # mismatches in one error message


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        claim: what holds of a run that nobody touched, in words.
        file: what is named where it cannot be carried out.
        find: yields what is wrong.
        results: whether it needs a finished run.
        of: whose folders have what it compares.
    """

    claim: str
    file: str
    find: Callable[[Run], Iterable[Mismatch]]
    results: bool = False
    of: tuple[Party, ...] = get_args(Party)

    def applies(self, run: Run) -> bool:
        """Whether the run's folder has what it compares."""
        return run.party in self.of and (run.finished or not self.results)


ALL: tuple[Party, ...] = ("everybody",)
SERVER: tuple[Party, ...] = ("everybody", "server")


CHECKS = (
    Check("every file that a run leaves is there", RunFile.NAME, files.missing),
    Check("no byte was changed", Inventory.NAME, files.of_inventory, results=True, of=ALL),
    Check("settings are those that every hospital agreed to", RunFile.NAME, agreements.of_settings),
    Check("run.json is of what was agreed", RunFile.NAME, agreements.of_agreed_file),
    Check("run.json follows from its settings", RunFile.NAME, agreements.of_run_file),
    Check("numbers were declared once", RunFile.NAME, agreements.of_declarations),
    Check("canaries are those that training held", RunFile.NAME, agreements.of_canaries),
    Check("each ledger is of this run's terms", RunFile.NAME, spending.of_terms),
    Check("rows of each ledger are as they were written", RunFile.NAME, spending.of_chains),
    Check("each reservation is what a round costs", RunFile.NAME, spending.of_events),
    Check("each contribution was reserved before", METRICS, spending.of_contributions),
    Check("rounds are those of the check point", METRICS, results.of_rounds, of=SERVER),
    Check("bytes are those of the recorded messages", METRICS, messages.of_bytes, of=SERVER),
    Check(
        "the summary follows from the ledgers",
        Summary.NAME,
        spending.of_summary,
        results=True,
        of=SERVER,
    ),
    Check(
        "the summary follows from the rounds",
        Summary.NAME,
        results.of_summary,
        results=True,
        of=SERVER,
    ),
    Check("the model began as agreed", model_file.NAME, results.of_model, results=True, of=SERVER),
    Check(
        "held-out counts are the summary's",
        HeldOut.NAME,
        results.of_held_out,
        results=True,
        of=SERVER,
    ),
    Check("hospitals' results are of this run", RunFile.NAME, results.of_hospitals, results=True),
    Check("masks are made as published", known_answers.PLACE, known_answers.of_program),
    Check("masks hide what was sent", masks.PLACE, masks.of_masks),
    Check(
        "sums and scores follow from the messages",
        f"exposures/{BYTES}",
        messages.of_replay,
        of=SERVER,
    ),
    Check("opened sums are remembered", openings.NAME, memories.of_memories, of=SERVER),
    Check("what left is what was recorded", egress.NAME, departures.of_departures),
    Check(
        "what hospitals kept adds up to the sums", f"exposures/{BYTES}", messages.of_kept, of=ALL
    ),
    Check("held-out answers add up to the total", NoisedAnswer.NAME, held_out.of_answers, of=ALL),
    Check("sums over scans are those that were opened", model_file.NAME, described.of_sums),
    Check("the audit's verdict follows from its lines", AuditFile.NAME, audits.of_lines),
    Check("the audit's verdict follows from its policy", AuditFile.NAME, policies.of_policy),
    Check("the audit is as it was written", AuditFile.NAME, policies.of_digest),
    Check("the audit tested what was claimed", AuditFile.NAME, audits.of_claims, results=True),
    Check("the card follows from the records", ModelCard.NAME, cards.of_records, results=True),
    Check("the card tells the audit", ModelCard.NAME, cards.of_audit, results=True),
)


def mismatches(run: Run, *, audit: bool = True) -> tuple[Mismatch, ...]:
    """Everything that does not agree; empty for a run that nobody touched.

    Args:
        audit: look at audit.json and the model's card too; not where these are about to be made
            again.
    """
    found: dict[Mismatch, None] = {}
    for check in CHECKS:
        if not check.applies(run) or (check.file in AGAIN and not audit):
            continue
        try:
            found.update(dict.fromkeys(check.find(run)))
        except (SecureFedError, ProtocolError) as error:
            # What cannot be read is no evidence; the error names the place.
            found[Mismatch(_named_in(str(error), run) or check.file, _below(run, error))] = None
    return tuple(found)


def require(run: Run, *, audit: bool = True) -> None:
    """Refuse a run whose files contradict each other.

    Args:
        audit: as for `mismatches`.

    Raises:
        RunError: with the first of them, each with its file.
    """
    found = mismatches(run, audit=audit)
    if found:
        more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise RunError(
            f"the files in {run.path} contradict each other:"
            + "".join(f"\n  {each}" for each in found[:SHOWN])
            + more,
            hint="put back the files as the run wrote them",
        )


def _below(run: Run, error: Exception) -> str:
    return str(error).replace(f"{run.path}/", "")


def _named_in(text: str, run: Run) -> str | None:
    """The file of the run that an error names."""
    for name in run.here:
        if str(run.ledger(name)) in text:  # a site's lies above its runs
            return run.place(name, ledger_file.NAME)
    for word in text.replace(",", " ").replace(":", " ").split():
        if word.startswith(f"{run.path}/"):
            return word.removeprefix(f"{run.path}/")
    return None
