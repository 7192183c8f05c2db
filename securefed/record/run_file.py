"""run.json: what a run was made of, so that it can be repeated, audited and compared."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from securefed.config import Configuration, Settings
from securefed.errors import RunError
from securefed.privacy.accounting import Noise
from securefed.record.json_file import SCHEMA, JsonFile, Schema

Party = Literal["everybody", "server", "hospital"]


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The patients; how many there are, each hospital knows for itself.

    Attributes:
        kind: where they come from; None at a server, which does not know.
        simulation: what they are if not people with scans of their own: "phantom",
            "paired-by-class", "made-up-patients", several joined by "+"; None for real patients.
        fingerprint: over all of them that are here, under the site's key; None at a server.
        hospitals: their names, in order.
    """

    kind: Literal["phantom", "manifest"] | None
    simulation: str | None
    fingerprint: str | None
    hospitals: tuple[str, ...]
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.hospitals:
            # The name of a folder: one from a file must not lead elsewhere.
            if name in ("", ".", "..") or Path(name).name != name:
                raise ValueError(f"it names a hospital {name!r}")


def unit_in_words(unit: str, simulation: str | None) -> str:
    """Whom a guarantee is about: nobody can be promised anything per patient of a simulation."""
    return "made-up patient" if simulation and unit == "patient" else unit


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """A file that encoders start from, and what it says of itself ("" where nothing)."""

    sha256: str
    source: str
    licence: str


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What training starts from.

    Attributes:
        public_weights_sha256: of the public weights the encoders start from, None if random.
        weights: the files of those.
        shared_parameters: how many parameters travel.
    """

    initialisation: str
    public_weights_sha256: str | None
    weights: tuple[Weights, ...] = ()
    shared_parameters: int


class Randomness(msgspec.Struct, frozen=True, kw_only=True):
    """Where chance came from. Whoever has the seed can remove `seeded` noise."""

    seed: int
    dp_noise_and_sampling: Noise
    secure_aggregation: Literal["none", "operating system"]


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What computed."""

    python: str
    machine: str
    device: str
    threads: int
    packages: dict[str, str]


class RunFile(JsonFile, msgspec.Struct, frozen=True, kw_only=True):
    """The content of run.json.

    Attributes:
        party: whose folder it is: a run in one process holds everybody's.
        hospital: whose, where it is one hospital's.
        run: the run's identity, as in the ledgers: random, or an agreement's.
        securefed: version of the program.
        settings: every setting as resolved, in the form of the settings file; `Run.settings` has
            them checked.
    """

    NAME: ClassVar[str] = "run.json"
    schema: Schema = SCHEMA

    party: Party = "everybody"
    hospital: str | None = None
    run: str
    securefed: str
    configuration: Configuration
    settings: dict[str, Any]
    data: Data
    model: Model
    randomness: Randomness
    environment: Environment

    def __post_init__(self) -> None:
        if (self.party == "hospital") != (self.hospital in self.data.hospitals):
            raise ValueError(f"it is of the hospital {self.hospital!r}")

    def checked_settings(self, folder: Path) -> Settings:
        """The settings of the run, whose folder is named where they are wrong.

        Raises:
            RunError: they are not of this version.
        """
        try:
            return Settings.model_validate_json(msgspec.json.encode(self.settings))
        except ValueError as error:
            raise RunError(
                f"{folder / self.NAME} does not hold the settings of a run",
                hint="it is damaged, or another version of securefed wrote it; make the run again",
            ) from error
