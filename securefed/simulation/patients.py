"""The patients that settings name: phantoms, or those of a manifest, divided among hospitals."""

from dataclasses import replace

from securefed.config import Settings
from securefed.data.load import FederatedData, manifest_hospitals, phantom_hospitals
from securefed.data.own import own_patients
from securefed.data.phantom import PhantomSpec
from securefed.data.requirements import require_both_labels, tell
from securefed.errors import ConfigurationError


def load_data(settings: Settings, *, begun: bool = False) -> FederatedData:
    """The hospitals' patients: phantoms, or those of a manifest.

    Args:
        begun: whether a run on them has begun, so that their site key must be there.

    Raises:
        ConfigurationError: the sites are not as many as the hospitals.
        DataError: the patients cannot be trained on as they are (securefed/data/requirements.py).
    """
    data, federation = settings.data, settings.federation
    if data.manifest is None:
        return phantom_hospitals(
            phantom_spec(settings),
            federation.clients,
            data.phantom.patients,
            data.phantom.test_patients,
            settings.seed,
            settings.model.harmonise,
            example=settings.task.example,
            label_noise=data.phantom.label_noise,
        )
    with own_patients(
        data.manifest,
        settings.model.image_size,
        settings.model.modalities,
        max_unusable=data.max_unusable,
        example=settings.task.example,
        classes=settings.task.classes,
        distinct_sites=data.partition == "site",
        distinct_persons=settings.privacy.dp and not data.allow_duplicates,
        key_file=data.site_key,
        begun=begun,
    ) as own:
        divided = manifest_hospitals(
            own.loaded,
            own.key,
            hospitals=federation.clients,
            test_share=data.test_fraction,
            seed=settings.seed,
            by=data.partition,
            alpha=data.dirichlet_alpha,
            harmonise=settings.model.harmonise,
        )
        if len(divided.hospitals) != federation.clients:
            sites = len(divided.hospitals)
            raise ConfigurationError(
                f"{data.manifest} has {sites} {'site' if sites == 1 else 'sites'}, "
                f"federation.clients is {federation.clients}",
                hint=f"{_way_out(sites, settings)}, or set data.partition: iid",
            )
        require_both_labels(divided.hospitals)
    told = tell(own.loaded, own.doubles, divided.hospitals)
    return replace(
        divided,
        warnings=[*divided.warnings, *told.warnings],
        named=(*own.named, *told.named),
    )


def _way_out(sites: int, settings: Settings) -> str:
    """What to change where a manifest has another number of sites: something that is accepted."""
    if sites < 2:
        return "name each patient's hospital in a column site"
    secure = settings.secure_aggregation
    if sites == 2 and secure.enabled and not secure.allow_two_party:
        return "set --clients 2 --no-secure (with two, each sees through the other's mask)"
    return f"set --clients {sites}"


def phantom_spec(settings: Settings) -> PhantomSpec:
    """The phantom generator's settings."""
    phantom = settings.data.phantom
    return PhantomSpec(
        modalities=settings.model.modalities,
        image_size=settings.model.image_size,
        contrast=phantom.contrast,
        rho=phantom.dissociated,
        scattered=phantom.scattered,
        kappa=phantom.single_evidence,
        distractors=phantom.distractors,
        missing_query=phantom.missing_query,
        missing_context=phantom.missing_context,
        site_shift=phantom.site_shift,
        scanners=phantom.scanners,
        classes=len(settings.task.classes),
    )
