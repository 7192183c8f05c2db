"""The patients that settings name: phantoms, or those of a manifest, divided among hospitals."""

from securefed.config import Settings
from securefed.data.load import (
    FederatedData,
    load_manifest,
    manifest_hospitals,
    phantom_hospitals,
)
from securefed.data.phantom import PhantomSpec
from securefed.data.pseudonyms import key_place, load_or_create_key
from securefed.errors import ConfigurationError


def load_data(settings: Settings) -> FederatedData:
    """The hospitals' patients: phantoms, or those of a manifest."""
    data, federation = settings.data, settings.federation
    if data.manifest is None:
        return phantom_hospitals(
            phantom_spec(settings),
            federation.clients,
            data.phantom.patients,
            data.phantom.test_patients,
            settings.seed,
        )
    loaded = load_manifest(data.manifest, settings.model.image_size)
    key = load_or_create_key(data.site_key or key_place(data.manifest))
    divided = manifest_hospitals(
        loaded,
        key,
        hospitals=federation.clients,
        test_share=data.test_fraction,
        seed=settings.seed,
        by=data.partition,
        alpha=data.dirichlet_alpha,
    )
    if len(divided.hospitals) != federation.clients:
        raise ConfigurationError(
            f"{data.manifest} has {len(divided.hospitals)} sites, federation.clients is "
            f"{federation.clients}",
            hint=f"set --clients {len(divided.hospitals)}, or data.partition: iid",
        )
    return divided


def phantom_spec(settings: Settings) -> PhantomSpec:
    """The phantom generator's settings."""
    phantom = settings.data.phantom
    return PhantomSpec(
        image_size=settings.model.image_size,
        contrast=phantom.contrast,
        rho=phantom.dissociated,
        kappa=phantom.single_evidence,
        missing_ct=phantom.missing_ct,
        missing_mri=phantom.missing_mri,
        site_shift=phantom.site_shift,
    )
