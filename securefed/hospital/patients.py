"""A hospital's own patients: all that its manifest names, divided into training and held out.

In its ledger they are tokens of the site's key, the same in every run (privacy.participation).
"""

from dataclasses import dataclass, field, replace

from securefed.config import Settings
from securefed.data.load import HospitalData, manifest_hospitals
from securefed.data.own import own_patients
from securefed.data.pseudonyms import SiteKey
from securefed.data.requirements import require_both_labels, tell
from securefed.errors import ConfigurationError
from securefed.privacy.participation import Participants


@dataclass(frozen=True)
class OwnPatients:
    """A hospital's patients.

    Attributes:
        simulation: what they are, if not people with scans of their own.
        participants: the same patients, for the ledger.
        fingerprint: over them, under the site's key.
        warnings: what limits any conclusion; no patient and no file is named.
        told: the warnings, and names of files, for the hospital's own eyes.
    """

    patients: HospitalData
    participants: Participants
    simulation: str
    fingerprint: str
    warnings: tuple[str, ...]
    told: tuple[str, ...] = field(repr=False)


def participants(patients: HospitalData, key: SiteKey) -> Participants:
    """Who takes part in a run, as a ledger knows them."""
    sides = (patients.train, patients.test)
    trained, held_out = (frozenset(key.token(one.patient_id) for one in side) for side in sides)
    return Participants(key.name, trained, held_out)


def load_patients(name: str, settings: Settings, *, begun: bool) -> OwnPatients:
    """The patients of `settings.data.manifest`.

    Args:
        name: the hospital's, whatever sites the manifest names.
        begun: whether a run on them has begun, so that their site key must be there.

    Raises:
        ConfigurationError: no manifest is named.
        DataError: they cannot be trained on as they are (securefed/data/requirements.py).
    """
    data = settings.data
    if data.manifest is None:
        raise ConfigurationError(
            "site.yaml names no patients (data.manifest)", hint="name the manifest of the scans"
        )
    with own_patients(
        data.manifest,
        settings.model.image_size,
        settings.model.modalities,
        max_unusable=data.max_unusable,
        example=settings.task.example,
        classes=settings.task.classes,
        distinct_sites=False,
        distinct_persons=settings.privacy.dp and not data.allow_duplicates,
        key_file=data.site_key,
        begun=begun,
    ) as own:
        divided = manifest_hospitals(
            own.loaded,
            own.key,
            hospitals=1,
            test_share=data.test_fraction,
            seed=settings.seed,
            by="iid",
            harmonise=settings.model.harmonise,
        )
        require_both_labels(divided.hospitals)
    said = tell(own.loaded, own.doubles, divided.hospitals)
    (patients,) = divided.hospitals
    warnings = (*divided.warnings, *said.warnings)
    return OwnPatients(
        replace(patients, name=name),
        participants(patients, divided.key),
        divided.simulation,
        divided.fingerprint,
        warnings,
        (*own.named, *warnings, *said.named),
    )
