"""Hospitals in folders of their own and a server in its own: a federation of four, on phantoms.

Bytes go between them in this process; the rest is as on machines of their own.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from securefed.config import Settings
from securefed.data.load import FederatedData
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.data.pseudonyms import PHANTOM_KEY
from securefed.hospital import policy as policy_file
from securefed.hospital import site as site_file
from securefed.hospital.member import Member
from securefed.hospital.patients import load_patients
from securefed.hospital.site import Site
from securefed.record.summary import Summary
from securefed.server.federation import serve
from securefed.simulation.in_process import InProcessTransport
from securefed.wire import agreement as agreement_file
from securefed.wire.agreement import FederationAgreement
from securefed.wire.transport import Handler, Transport
from tests.tiny import changed, tiny

NAMES = ("east", "north", "south", "west")
PATIENTS = 24  # of each, held-out ones included
ROUNDS = 3

# The noise of a few phantoms would drown them; what costs epsilon is tested all the same.
SETTINGS = {
    "privacy": {"epsilon": 8.0, "delta": 1e-3, "seeded_noise": True, "evaluation_epsilon": 2.0},
    "federation": {"clients": 4, "rounds": ROUNDS, "timeout_s": 20.0},
}


def settings(**sections: Any) -> Settings:
    """What the four agree on."""
    return Settings.model_validate(changed(changed(tiny(), **SETTINGS), **sections))


def make_site(folder: Path, data: Path, name: str, number: int, **policy: Any) -> Site:
    """A hospital with phantoms, and a policy that lets a test train on so few of them.

    Args:
        number: of its phantoms; others have others.
    """
    place = data / name
    if not place.exists():
        write_phantoms(place, PhantomSpec(image_size=32), 1, PATIENTS, seed=number)
        (data / f"{name}.site-key").write_text(f"{bytes([number + 1] * 32).hex()}\n")
        (data / f"{name}.site-key").chmod(0o600)
    made = site_file.create(
        folder / name, name, place / "manifest.csv", lifetime_epsilon=20.0, delta=1e-3
    )
    few = {"smallest_training_set": 5, "secret_noise": False}
    path = made.folder / policy_file.NAME
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **few, **policy}))
    return site_file.open_site(made.folder)


@dataclass
class Four:
    """The folders of a federation.

    Attributes:
        told: what each hospital, and the server, was told to say.
    """

    folder: Path
    sites: dict[str, Site]
    agreement: FederationAgreement
    told: dict[str, list[str]] = field(default_factory=dict)

    @property
    def server(self) -> Path:
        return self.folder / "server"

    def run_of(self, name: str) -> Path:
        """A site's folder of the run."""
        return self.sites[name].run(self.agreement.run)

    def copied(self, name: str, folder: Path) -> Path:
        """A copy of a site's folder, made in another one; its folder of the run."""
        copy = shutil.copytree(self.sites[name].folder, folder / name)
        return Path(copy) / site_file.RUNS / self.agreement.run

    def members(self, *names: str) -> dict[str, Member]:
        """These hospitals' programs, started; all of them unless told."""
        return {
            name: Member(self.sites[name], self.told.setdefault(name, []).append)
            for name in names or NAMES
        }

    def serve(
        self, handlers: Mapping[str, Handler], *, hello_s: float = 300.0, **options: Any
    ) -> Summary | None:
        """One job of the server, over hospitals that are there."""
        transport: Transport = InProcessTransport(handlers)
        tell = self.told.setdefault("server", []).append
        return serve(self.server, transport, tell, hello_s=hello_s, **options)

    def play(self, *names: str, **options: Any) -> Summary | None:
        """One job, with these hospitals, who leave at its end."""
        members = self.members(*names)
        try:
            return self.serve({name: each.handle for name, each in members.items()}, **options)
        finally:
            for each in members.values():
                each.close()


Make = Callable[..., Four]


def make_four(
    folder: Path,
    data: Path,
    chosen: Settings | None = None,
    policy: Mapping[str, Any] | None = None,
    names: Sequence[str] = NAMES,
) -> Four:
    """Four sites that have accepted one agreement, and the server's folder.

    Args:
        names: of others, or of more.
    """
    sites = {
        name: make_site(folder, data, name, number, **(policy or {}))
        for number, name in enumerate(names)
    }
    keys = {name: site.identity.public for name, site in sites.items()}
    content = agreement_file.make("trial", chosen or settings(), keys, None)
    agreement = agreement_file.write(content, folder / "agreement.yaml")
    for site in sites.values():
        site.accept(folder / "agreement.yaml", agreement.digest)
    (folder / "server").mkdir()
    (folder / "server" / agreement_file.NAME).write_bytes(content)
    return Four(folder, sites, agreement)


def survey_of(training: Four, folder: Path, epsilon: float) -> Four:
    """The same sites, which have accepted an agreement on a survey besides, and its server."""
    (folder / "server").mkdir(parents=True)
    chosen = settings(privacy={"epsilon": epsilon}, federation={"minimum_clients": 4})
    keys = {name: site.identity.public for name, site in training.sites.items()}
    content = agreement_file.make("survey", chosen, keys, None, survey=True)
    agreement = agreement_file.write(content, folder / "agreement.yaml")
    for site in training.sites.values():
        site.accept(folder / "agreement.yaml", agreement.digest)
    (folder / "server" / agreement_file.NAME).write_bytes(content)
    return Four(folder, training.sites, agreement)


def patients_of(four: Four) -> FederatedData:
    """The same patients as one process loads them."""
    jobs = {name: four.agreement.job(1, site.own_settings()) for name, site in four.sites.items()}
    hospitals = [
        load_patients(name, job.settings, begun=True).patients for name, job in jobs.items()
    ]
    return FederatedData(hospitals, "", [], PHANTOM_KEY, "phantom")
