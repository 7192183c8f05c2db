"""A whole federation on one machine: folders, keys, agreement, certificates, as people make them.

For trying things out. On one machine nobody is protected from anybody: every key lies beside every
other one. The patients are phantoms.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from securefed.config import Settings
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.engine.flare import places, processes, provisioning
from securefed.engine.flare.ports import free_port
from securefed.errors import ConfigurationError
from securefed.hospital import site as site_file
from securefed.server import folder as server_folder
from securefed.wire import agreement as agreement_file

NAMES = ("east", "north", "south", "west")
PATIENTS = 240  # of each hospital, held-out ones included
LIFETIME_EPSILON = 20.0

Tell = Callable[[str], None]


def make(folder: Path, settings: Settings, tell: Tell) -> Path:
    """Make a federation's folders; gives the server's.

    Args:
        settings: of the run; as many hospitals as NAMES.

    Raises:
        ConfigurationError: there is something in `folder`, or no engine.
        RunError: FLARE's tools failed.
    """
    places.require_engine()
    places.require_path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty", hint="choose another --out")
    sites = {}
    for number, name in enumerate(NAMES):
        tell(f"{name}: patients, a folder, a key, a ledger")
        patients = folder / "patients" / name
        spec = PhantomSpec(image_size=settings.model.image_size)
        write_phantoms(patients, spec, 1, PATIENTS, seed=number)
        sites[name] = site_file.create(
            folder / name,
            name,
            patients / "manifest.csv",
            lifetime_epsilon=LIFETIME_EPSILON,
            delta=settings.privacy.delta,
        )
    keys = {name: site.identity.public for name, site in sites.items()}
    content = agreement_file.make("demonstration", settings, keys, None)
    agreement = agreement_file.write(content, folder / agreement_file.NAME)
    server = folder / "server"
    server_folder.create(server, folder / agreement_file.NAME)
    tell("server: an authority, a certificate")
    fingerprint = provisioning.make_authority(server, "localhost", free_port())
    for name, site in sites.items():
        tell(f"{name}: a request, an approval, a certificate")
        site.accept(folder / agreement_file.NAME, agreement.digest)
        request = provisioning.request_certificate(site.folder, name)
        approval = provisioning.approve(server, request, sites)
        provisioning.install(site.folder, name, approval.file, fingerprint)
    return server


@contextmanager
def hospitals(folder: Path) -> Iterator[None]:
    """Every hospital's program, from start to stop."""
    with ExitStack() as stack:
        for name in NAMES:
            stack.callback(processes.stop, processes.client_program(folder / name, name))
        yield
