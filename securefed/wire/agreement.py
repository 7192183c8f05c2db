"""agreement.yaml: all that the hospitals of a federation and its server share, and its digest.

The coordinator makes one, sends it around, and people compare the digest, which is that of the
file: `sha256sum agreement.yaml` shows it too. A hospital trains under a digest that it has accepted
and under no other. One agreement is one run: whoever wants another needs another agreement, and so
a server cannot begin a second run by itself.

What is not in it is the site's own: its patients, its device, its ledger and policy, and what it
keeps of what it sent. Nothing in the file is private.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from protocols.errors import ProtocolError
from protocols.identity import NAME as NAME_FORM
from protocols.identity import Roster
from securefed import settings_file
from securefed.config import Settings
from securefed.errors import ConfigurationError
from securefed.files import read_bounded, write_atomically
from securefed.settings_file import dotted

if TYPE_CHECKING:  # it loads torch, which a command that only waits for a server does without
    from securefed.wire.description import JobDescription
    from securefed.wire.survey import SurveyJob

NAME = "agreement.yaml"
SCHEMA = 1
SECTIONS = ("task", "model", "training", "privacy", "federation", "secure_aggregation", "seed")
MAKE = "securefed agreement make writes one"

_KEYS = {"schema", "name", "hospitals", "weights_sha256", "smallest_training_set", "settings"}
_SURVEY = "survey"  # a key that stands in the file of a survey only
_ABOUT = """\
# What the hospitals of this federation and its server agree on. The SHA-256 of this file is what
# people compare: a changed byte makes another agreement, and a hospital refuses it.
"""


@dataclass(frozen=True)
class FederationAgreement:
    """The content of agreement.yaml.

    Attributes:
        name: of what is agreed, in words that file names allow.
        settings: SECTIONS as agreed; all else has its default.
        roster: every hospital's name and identity key.
        weights_sha256: of the public weights that encoders start from; None where they are random.
        smallest_training_set: no hospital declares fewer patients; for shared noise only.
        digest: SHA-256 of the file, hex.
        survey: nothing is trained; hospitals say once what they hold (wire.survey), and of the
            settings epsilon, delta and what is about sums matter.
    """

    name: str
    settings: Settings
    roster: Roster
    weights_sha256: str | None
    smallest_training_set: int | None
    digest: str
    survey: bool = False

    @property
    def run(self) -> str:
        """Identity of its run, in ledgers too."""
        return self.digest[:32]

    @cached_property
    def agreed(self) -> dict[str, Any]:
        """What is agreed, flat: dotted key -> value."""
        values = self.settings.model_dump(mode="json", include=set(SECTIONS))
        keys = {f"hospitals.{name}": key.hex() for name, key in self.roster.keys.items()}
        return {
            "name": self.name,
            **keys,
            "weights_sha256": self.weights_sha256,
            "smallest_training_set": self.smallest_training_set,
            _SURVEY: self.survey,
            **dotted(values),
        }

    def job(self, membership: int, own: Mapping[str, Any] | None = None) -> "JobDescription":
        """The job of its run that hospitals join for the n-th time.

        Args:
            membership: 1, 2, ...; each is a job of its own to the secure sum.
            own: a site's own settings, by section.

        Raises:
            ConfigurationError: they contradict what is agreed, or the public weights here are
                others than those agreed on.
        """
        from securefed.wire.description import JobDescription

        values = self.settings.model_dump(mode="json") | dict(own or {})
        job = JobDescription(
            settings=_settings(values, "the site's settings"),
            run=self.run,
            hospitals=self.roster.names,
            smallest_training_set=self.smallest_training_set,
        )
        if job.weights_sha256 != self.weights_sha256:
            raise ConfigurationError(
                f"the public weights here are {job.weights_sha256}, agreed are "
                f"{self.weights_sha256}",
                hint="put the agreed files where model.weights names them; where it names none, "
                "install the version of securefed that the agreement was made with",
            )
        return job.with_keys(self.roster.keys, f"{self.run}.{membership}")

    def survey_job(self, membership: int, own: Mapping[str, Any] | None = None) -> "SurveyJob":
        """The same of a survey.

        Raises:
            ConfigurationError: the site's own settings contradict what is agreed.
        """
        from securefed.wire.survey import survey_job

        values = self.settings.model_dump(mode="json") | dict(own or {})
        settings = _settings(values, "the site's settings")
        keys, job = self.roster.keys, f"{self.run}.{membership}"
        return survey_job(settings, self.run, settings.privacy.epsilon, keys, job)

    def differences(self, other: "FederationAgreement") -> list[tuple[str, Any, Any]]:
        """(key, here, there) of all that another one has otherwise; None where it has nothing."""
        here, there = self.agreed, other.agreed
        return [
            (key, here.get(key), there.get(key))
            for key in dict.fromkeys([*here, *there])
            if here.get(key) != there.get(key)
        ]


def make(
    name: str,
    settings: Settings,
    keys: Mapping[str, bytes],
    smallest_training_set: int | None,
    *,
    survey: bool = False,
) -> bytes:
    """The content of a new agreement's file.

    Args:
        settings: what is not in SECTIONS must have its default, or be a site's own.

    Raises:
        ConfigurationError: these settings cannot be agreed on, or the roster is none.
    """
    from securefed.wire.description import JobDescription

    _require_possible(name, settings, keys, smallest_training_set)
    if survey:
        _require_survey(settings, keys)
    job = JobDescription(settings, "unnamed", tuple(keys), smallest_training_set)
    values = settings.model_dump(mode="json", include=set(SECTIONS))
    content = {
        "schema": SCHEMA,
        "name": name,
        "hospitals": {each: base64.b64encode(keys[each]).decode() for each in sorted(keys)},
        "weights_sha256": job.weights_sha256,
        "smallest_training_set": smallest_training_set,
        **({_SURVEY: True} if survey else {}),
        "settings": {section: values[section] for section in SECTIONS},
    }
    return (_ABOUT + yaml.safe_dump(content, sort_keys=False)).encode()


def write(content: bytes, path: Path) -> FederationAgreement:
    """Write a new agreement's file.

    Raises:
        ConfigurationError: there is something at `path` already.
    """
    if path.exists():
        raise ConfigurationError(
            f"there is something at {path} already",
            hint="an agreement is never changed: name a new file",
        )
    write_atomically(path, content)
    return read(path)


def read(path: Path) -> FederationAgreement:
    """An agreement's file.

    Raises:
        ConfigurationError: unreadable, of another schema, or not an agreement.
    """
    content = read_bounded(path, settings_file.LARGEST_FILE, error=ConfigurationError, hint=MAKE)
    values = settings_file.read(path, what="agreement", example="a file of another agreement")
    survey = values.pop(_SURVEY, False)
    if values.get("schema") != SCHEMA or set(values) != _KEYS or not isinstance(survey, bool):
        raise ConfigurationError(f"{path} is no agreement of schema {SCHEMA}", hint=MAKE)
    settings = _settings(_section(values, "settings", path), str(path))
    try:
        keys = {
            name: base64.b64decode(key, validate=True)
            for name, key in _section(values, "hospitals", path).items()
        }
        roster = Roster(keys)
    except (ProtocolError, binascii.Error, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: hospitals: {error}", hint=MAKE) from None
    weights, smallest = values["weights_sha256"], values["smallest_training_set"]
    if not (weights is None or isinstance(weights, str)):
        raise ConfigurationError(f"{path}: weights_sha256 must be text, got {weights!r}", hint=MAKE)
    if not (smallest is None or (type(smallest) is int and smallest > 0)):
        raise ConfigurationError(
            f"{path}: smallest_training_set must be a number of patients", hint=MAKE
        )
    _require_possible(values["name"], settings, roster.keys, smallest)
    if survey:
        _require_survey(settings, roster.keys)
    return FederationAgreement(
        name=values["name"],
        settings=settings,
        roster=roster,
        weights_sha256=weights,
        smallest_training_set=smallest,
        digest=hashlib.sha256(content).hexdigest(),
        survey=survey,
    )


def _require_possible(
    name: Any, settings: Settings, keys: Mapping[str, bytes], smallest: int | None
) -> None:
    """Refuse what no federation on machines of its own can be held to."""
    default = Settings.model_construct()
    wrong, hint = "", MAKE
    if not (isinstance(name, str) and NAME_FORM.fullmatch(name)):
        wrong = f"the name {name!r} is not 1 to 64 letters, digits, '.', '_' or '-'"
    elif settings.federation.clients != len(keys):
        wrong = f"federation.clients is {settings.federation.clients}, the keys are of {len(keys)}"
        hint = "one key for each hospital: securefed keys show prints a site's"
    elif smallest is not None and smallest < 1:
        wrong = f"the smallest training set is of {smallest} patients"
        hint = "agree on a number of patients that each hospital has"
    elif settings.smallest_matters and smallest is None:
        wrong = "privacy.placement: distributed needs the smallest training set"
        hint = (
            "agree on a number of patients that each hospital has (--smallest-training-set), or on "
            "training.sample_rate in place of training.batch_size"
        )
    elif settings.secure_aggregation.graph == "sparse":
        # Who masks with whom follows from the job's name, and rejoining takes another.
        wrong, hint = "secure_aggregation.graph: sparse is for one process", "use complete"
    elif settings.canaries != default.canaries or settings.evaluation != default.evaluation:
        wrong = "canaries and evaluation.baselines are of runs in one process"
        hint = "leave them out of the settings file"
    if wrong:
        raise ConfigurationError(wrong, hint=hint)


def _require_survey(settings: Settings, keys: Mapping[str, bytes]) -> None:
    """Refuse settings with which a survey could not open."""
    from securefed.wire.survey import survey_job

    federation = settings.federation
    if federation.clients_per_round or federation.minimum_clients != federation.clients:
        raise ConfigurationError(
            "a survey is a sum over everybody",
            hint="set federation.minimum_clients to all, and clients_per_round to null",
        )
    survey_job(settings, "unnamed", settings.privacy.epsilon, keys)


def _settings(values: Mapping[str, Any], place: str) -> Settings:
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(
            f"{place}: {f'{key}: ' if key else ''}{told}",
            hint="docs/configuration.md explains every key",
        ) from None


def _section(values: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = values[name]
    if not isinstance(section, dict):
        raise ConfigurationError(f"{path}: {name} must hold keys and values", hint=MAKE)
    return section
