"""Who of some patients trained a model: figures of those who did are too good.

Nobody's name is kept anywhere. A hospital's ledger has who took part in which private run as tokens
under the site's key; of a run without differential privacy there is no ledger, and who trained
follows from the key, the settings and the manifest again. So it can be told where the key is, which
is where the patients are, and nowhere else.

Told by identifier alone: a person under another one, or imported under another key, is not found.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from securefed.data import folders
from securefed.data.partition import is_held_out
from securefed.data.pseudonyms import SiteKey, key_place, ledger_beside, passing_key
from securefed.errors import DataError
from securefed.hospital import site
from securefed.privacy import statement
from securefed.record.run_file import RunFile
from securefed.run_directory import Run


@dataclass(frozen=True)
class Trained:
    """Who trained.

    Attributes:
        patients: how many of those that were asked for; None where it cannot be told.
        told: from what, or why it cannot be; on pages that leave, so without paths.
    """

    patients: int | None
    told: str


@dataclass(frozen=True)
class Papers:
    """Where it is written who trained.

    Attributes:
        run: the model's, with settings; None where only the model's file is here.
        identity: the run's, as in ledgers; "" where it is not known.
        key, ledger, manifest: files, which may not be there; None where nobody says which.
        divided_by: the key that the manifest was divided under.
    """

    run: Run | None = field(repr=False)
    identity: str
    key: Path | None
    ledger: Path | None
    manifest: Path | None = None
    divided_by: Path | None = None

    @classmethod
    def beside(cls, model: Path, identity: str, patients: Path) -> "Papers":
        """Those of the run whose folder the model lies in, else those beside the patients.

        Args:
            identity: of the run, as the model's file has it.
        """
        folder = model if model.is_dir() else model.parent
        run = Run.open(folder) if (folder / RunFile.NAME).is_file() else None
        if run is None or run.party == "server":
            key = key_place(patients)
            return cls(None, run.about.run if run else identity, key, ledger_beside(key))
        home = folder.resolve().parent.parent
        if run.party == "everybody":
            data = run.settings.data
        elif not (home / site.NAME).is_file():  # a copy of the run alone
            key = key_place(patients)
            return cls(None, run.about.run, key, ledger_beside(key))
        else:
            data = site.read_about(home).data
            named = {
                name: place and home / place
                for name, place in (("manifest", data.manifest), ("site_key", data.site_key))
            }
            data = data.model_copy(update=named)
        if data.manifest is None:
            return cls(run, run.about.run, None, None)
        key = data.site_key or key_place(data.manifest)
        ledger = ledger_beside(key) if run.party == "everybody" else run.ledger(run.here[0])
        return cls(run, run.about.run, key, ledger, data.manifest, key)

    def with_files(self, key: Path | None, ledger: Path | None) -> "Papers":
        """The same with files that were named instead."""
        return replace(self, key=key or self.key, ledger=ledger or self.ledger)


def who_trained(patients: Collection[str], papers: Papers) -> Trained:
    """How many of some patients trained.

    Raises:
        SecureFedError: a file that says so is damaged, or others can read the key.
    """
    if papers.key is None:
        return Trained(None, "the model was trained on phantoms, of whom nobody keeps a list")
    if not papers.key.is_file():
        return Trained(None, f"the key that tells patients apart is not here ({papers.key.name})")
    key = passing_key(papers.key)
    if papers.ledger and papers.ledger.is_file() and papers.identity:
        tokens = _enrolled(papers.ledger, papers.identity, key)
        if tokens is not None:
            found = sum(key.token(each) in tokens for each in patients)
            return Trained(found, f"by identifier, from the ledger {papers.ledger.name}")
    # Not by a key that somebody named: another one divides otherwise, and nobody would notice.
    if papers.run and papers.manifest and papers.divided_by and papers.divided_by.is_file():
        return _divided(patients, papers.run, papers.manifest, passing_key(papers.divided_by))
    ledger = papers.ledger.name if papers.ledger else "a ledger"
    there = papers.ledger and papers.ledger.is_file()
    what = "knows no such run under this key" if there else "is not here"
    return Trained(None, f"{ledger} {what}")


def _enrolled(ledger: Path, run: str, key: SiteKey) -> frozenset[bytes] | None:
    """Tokens of those that trained in a run; None where the ledger does not have them."""
    enrolments = [
        each
        for each in statement.read(ledger).enrolments
        # A data set's ledger has a run for each simulated hospital (simulation/lifetime.py).
        if each.run.split("/")[0] == run and each.side == "trained" and each.key == key.name
    ]
    if not enrolments:
        return None
    return frozenset(token for each in enrolments for token in each.tokens())


def _divided(patients: Collection[str], run: Run, manifest: Path, key: SiteKey) -> Trained:
    """From the division, which is the same again under the same key."""
    settings = run.settings
    try:
        rows = folders.read(manifest, labelled=False).rows
    except DataError:
        return Trained(None, f"the run's patients are not here ({manifest.name})")
    everybody = {row.patient_id for row in rows}
    found = sum(
        each in everybody and not is_held_out(key, each, settings.data.test_fraction, settings.seed)
        for each in patients
    )
    return Trained(found, f"by identifier, from the division of {manifest.name}")


def require_strangers(trained: Trained, patients: int) -> None:
    """Refuse patients of whom some trained.

    Raises:
        DataError: how many did.
    """
    if trained.patients:
        raise DataError(
            f"{trained.patients} of these {patients} patients trained this model "
            f"({trained.told}): figures of them are too good",
            hint="leave them out of the manifest; --trained-too measures them all the same",
        )
