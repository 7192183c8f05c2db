"""A hospital's folder: everything of it that lasts, and nothing that leaves.

    site.yaml           its name, its patients, its device, what it keeps of what it sends
    policy.yaml         what it takes part in at all (hospital/policy.py)
    identity.pem        its long-lived key (mode 600); the public half is in agreements
    revoked.jsonl       keys of others that it does not trust any more
    ledger.sqlite       what its patients have spent, over all runs, and the limit on it
    jobs/RUN/           memberships.jsonl: the jobs of a run that it joined, and how far it trained
    runs/RUN/           one run: agreement.yaml as accepted, and its part of a run directory:
                        run.json, egress.jsonl, what it received and sent, check points, what it
                        answered, at the end its own results and the model

The folder belongs to its owner alone (mode 700). Back the ledger up first, and after every run:
`securefed ledger export`.
"""

import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from protocols.errors import InvalidIdentity
from protocols.identity import NAME as NAME_FORM
from protocols.identity import IdentityKey
from securefed import settings_file
from securefed.config import DataSettings, ExposureSettings, PrivacySettings, Section
from securefed.data.manifest import read_manifest
from securefed.data.names import require_site
from securefed.errors import ConfigurationError, DataError, PrivacyError, RunError
from securefed.files import create_private
from securefed.hospital import policy as policy_file
from securefed.hospital.keys import IDENTITY, require_trusted
from securefed.hospital.policy import SHORTEST_DIGEST, Policy
from securefed.privacy import ledger_file
from securefed.privacy.accountant import Accountant
from securefed.privacy.ledger import Ledger, PrivacyUnit
from securefed.privacy.limits import RunLimit
from securefed.record.memberships import JOBS
from securefed.record.run_file import RunFile
from securefed.wire import agreement as agreement_file
from securefed.wire.agreement import FederationAgreement

NAME = "site.yaml"
RUNS = "runs"
INIT = "securefed site init makes one"
EXAMPLE = "docs/configuration.md"


class SiteFile(Section):
    """The content of site.yaml."""

    name: str = Field(description="The hospital's name in agreements.")
    data: DataSettings = DataSettings()
    exposures: ExposureSettings = ExposureSettings()
    device: str = Field("auto", pattern="^(auto|cpu|cuda)$", description="Where to train.")


@dataclass(frozen=True)
class Site:
    """A hospital's folder, opened.

    Attributes:
        identity: never leaves.
    """

    folder: Path
    about: SiteFile
    policy: Policy
    identity: IdentityKey = field(repr=False)

    @property
    def name(self) -> str:
        return self.about.name

    @property
    def ledger_path(self) -> Path:
        return self.folder / ledger_file.NAME

    def run(self, run: str) -> Path:
        """The folder of one run, which is there from when its agreement was accepted."""
        return self.folder / RUNS / run

    def jobs(self, run: str) -> Path:
        """Where the jobs of a run are written down; apart from its folder, which may be lost."""
        return self.folder / JOBS / run

    def has_begun(self, agreement: FederationAgreement) -> bool:
        """Whether this hospital has joined a job of the agreement's run."""
        return (self.run(agreement.run) / RunFile.NAME).is_file()

    def own_settings(self) -> dict[str, Any]:
        """The sections of settings that are the site's, its manifest found from its folder."""
        own = self.about.model_dump(include={"data", "exposures", "device"})
        for key in ("manifest", "site_key"):
            place = own["data"][key]
            own["data"][key] = place and str((self.folder / place).resolve())
        return own

    def agreements(self) -> list[FederationAgreement]:
        """All that were accepted here, by name."""
        places = sorted((self.folder / RUNS).glob(f"*/{agreement_file.NAME}"))
        return sorted(map(agreement_file.read, places), key=lambda each: each.name)

    def accepted(self, digest: str) -> FederationAgreement:
        """The agreement of a digest.

        Raises:
            RunError: it was not accepted here, has changed since, or holds a key that was revoked.
            ConfigurationError: this site has another key than the agreement's.
        """
        place = self.run(digest[:32]) / agreement_file.NAME
        if not place.is_file():
            raise RunError(
                f"agreement {digest[:16]} was not accepted at {self.name}",
                hint="compare its digest with the others', then: securefed agreement accept",
            )
        agreement = agreement_file.read(place)
        if agreement.digest != digest:
            raise RunError(
                f"{place} has changed since it was accepted",
                hint=f"remove it, and accept the file whose digest was compared: {digest[:16]}...",
            )
        self._require_own_key(agreement, place)
        require_trusted(self.folder, agreement.roster)
        return agreement

    def accept(self, path: Path, digest: str) -> FederationAgreement:
        """Take part in an agreement from now on, when a server asks for it.

        Args:
            digest: as people compared it; its first 32 digits at least, since who makes the file
                could find two of the same 16.

        Raises:
            ConfigurationError: the file is of another digest, or not about this hospital.
            RunError: it holds a key that was revoked here.
            PrivacyError: its privacy unit is not that of the ledger here.
        """
        agreement = agreement_file.read(path)
        if len(digest) < SHORTEST_DIGEST:
            raise ConfigurationError(
                f"the digest {digest} has {len(digest)} digits",
                hint=f"have at least {SHORTEST_DIGEST} of them read out",
            )
        if not agreement.digest.startswith(digest.lower()):
            # Which one it has is not said: who copies it from here has compared nothing.
            raise ConfigurationError(
                f"{path} has another digest than {digest}",
                hint="type it as it was read out to you; if you did, do not accept the file, and "
                "ask who made it, by another way than it came by",
            )
        self._require_own_key(agreement, path)
        require_trusted(self.folder, agreement.roster)
        if agreement.settings.privacy.dp:
            self.ledger(agreement.settings.privacy)
        folder = self.run(agreement.run)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / agreement_file.NAME).exists():
            shutil.copyfile(path, folder / agreement_file.NAME)
        return self.accepted(agreement.digest)

    def _require_own_key(self, agreement: FederationAgreement, place: Path) -> None:
        if agreement.roster.keys.get(self.name) != self.identity.public:
            raise ConfigurationError(
                f"{place} does not hold the identity key of {self.name}",
                hint="send the line of `securefed keys show` to who makes the agreement",
            )

    def ledger(self, terms: PrivacySettings | None = None) -> Ledger:
        """The ledger of all its runs.

        A run's delta and accountant may be others than the ledger's: what a run may add is limited
        by its own, and what its patients spend in all runs is composed at the ledger's.

        Args:
            terms: of the run that it is opened for, if any.

        Raises:
            PrivacyError: it is missing, damaged, another hospital's, or counts another unit.
        """
        if terms is None:
            return Ledger.open(self.ledger_path, client=self.name)
        limit = RunLimit(terms.epsilon, terms.delta, terms.accountant)
        ledger = Ledger.open(self.ledger_path, client=self.name, run_limit=limit)
        if ledger.unit != terms.unit:
            raise PrivacyError(
                f"the ledger of {self.name} counts by {ledger.unit}, the agreement by {terms.unit}",
                hint="histories of two units do not compose: agree on the ledger's",
            )
        return ledger


def create(
    folder: Path,
    name: str,
    manifest: Path | None,
    *,
    lifetime_epsilon: float,
    delta: float,
    unit: PrivacyUnit = "patient",
    accountant: Accountant = "prv",
    device: str = "auto",
) -> Site:
    """Make a hospital's folder, with a key and an empty ledger of its own.

    Args:
        manifest: of its patients; None leaves it to be filled in.
        lifetime_epsilon: limit on what its patients may spend in all runs together.
        delta, accountant: of that limit; a run may have others, and is counted by these.
        unit: of that limit; a run under another is refused.

    Raises:
        ConfigurationError, PrivacyError: a value out of its range, or there is something already.
        DataError: no manifest, or a name that no site has.
    """
    if not NAME_FORM.fullmatch(name):
        raise ConfigurationError(
            f"the name {name!r} is not 1 to 64 letters, digits, '.', '_' or '-'",
            hint="it stands in agreements and certificates",
        )
    require_site(name)
    if manifest:
        read_manifest(manifest)  # refuses what is none; its patients are read when a run begins
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        if any(folder.iterdir()):
            raise ConfigurationError(
                f"{folder} is not empty", hint="a site is never made twice; name a new folder"
            ) from None
        folder.chmod(0o700)
    made = False
    try:
        Ledger.create(
            folder / ledger_file.NAME,
            client=name,
            unit=unit,
            delta=delta,
            budget_epsilon=lifetime_epsilon,
            accountant=accountant,
        )
        data = {"manifest": os.path.relpath(manifest, folder)} if manifest else {}
        about = {"name": name, "data": data, "exposures": {"record": True}, "device": device}
        create_private(folder / NAME, yaml.safe_dump(about, sort_keys=False).encode())
        defaults = Policy().model_dump(mode="json")
        create_private(
            folder / policy_file.NAME, yaml.safe_dump(defaults, sort_keys=False).encode()
        )
        IdentityKey.generate().save(folder / IDENTITY)
        (folder / RUNS).mkdir(mode=0o700)
        made = True
    finally:
        if not made:
            shutil.rmtree(folder)
    return open_site(folder)


def open_site(folder: Path) -> Site:
    """A hospital's folder, as it is now.

    Raises:
        ConfigurationError: there is none, others can read it, or one of its files is wrong.
    """
    about = read_about(folder)
    policy = policy_file.read(folder / policy_file.NAME)
    try:
        identity = IdentityKey.load(folder / IDENTITY)
    except InvalidIdentity as error:
        raise ConfigurationError(
            str(error),
            hint=error.hint or "put it back from a backup; if it is lost: securefed keys rotate",
        ) from None
    return Site(folder, about, policy, identity)


def read_about(folder: Path) -> SiteFile:
    """What a hospital's folder says of itself; its key and its policy may be missing.

    Raises:
        ConfigurationError: it is none, others can read it, or site.yaml is wrong.
    """
    if not (folder / NAME).is_file():
        a_server_s = (folder / agreement_file.NAME).is_file()
        raise ConfigurationError(
            f"{folder} is no hospital's folder (no {NAME})",
            hint="it is a server's: securefed server" if a_server_s else INIT,
        )
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        raise ConfigurationError(
            f"{folder} is open to other users (mode {mode:o})", hint=f"chmod 700 {folder}"
        )
    values = settings_file.read(folder / NAME, what="site", example=EXAMPLE)
    try:
        about = SiteFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"{folder / NAME}: {key}: {first['msg']}",
            hint=f"keys there: {', '.join(SiteFile.model_fields)}; {EXAMPLE} explains them",
        ) from None
    require_site(about.name)
    return about


def simulation(folder: Path) -> str:
    """What a hospital's patients are, if its manifest says that they are not people; else "".

    Raises:
        ConfigurationError: as `read_about`.
    """
    named = read_about(folder).data.manifest
    try:
        # Whatever labels are of: no agreement has said that yet.
        return read_manifest(folder / named, labelled=False).simulation if named else ""
    except DataError:  # what was spent is shown also where the patients are out of reach
        return ""
