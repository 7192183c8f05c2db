"""Patients of a manifest that may be trained on, with the secret that divides them.

A simulated federation and a hospital of its own meet the same refusals, in the same order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from securefed.config import DataSettings
from securefed.data.identities import Doubles, find_doubles
from securefed.data.load import Loaded, load_manifest
from securefed.data.pseudonyms import SiteKey, key_place, site_key
from securefed.data.requirements import (
    require_one_identifier_each,
    require_one_name_per_site,
    require_usable,
)
from securefed.errors import ConfigurationError


@dataclass(frozen=True)
class Own:
    """Patients that may be trained on.

    Attributes:
        named: what the operator should know of the key.
    """

    loaded: Loaded = field(repr=False)
    doubles: Doubles = field(repr=False)
    key: SiteKey = field(repr=False)
    named: tuple[str, ...]


@contextmanager
def own_patients(data: DataSettings, image_size: int, *, dp: bool, begun: bool) -> Iterator[Own]:
    """The patients of `data.manifest`; a key that is made goes again if the work with it fails.

    Args:
        begun: whether a run on them has begun, so that their site key must be there.

    Raises:
        ConfigurationError: no manifest is named.
        DataError: they cannot be trained on as they are (securefed/data/requirements.py).
    """
    if data.manifest is None:
        raise ConfigurationError("data.manifest is not set", hint="name the manifest of the scans")
    loaded = load_manifest(data.manifest, image_size)
    require_usable(loaded, data.max_unusable)
    if data.partition == "site":
        require_one_name_per_site(loaded)
    doubles = find_doubles(loaded.patients, loaded.persons)
    if dp and not data.allow_duplicates:
        require_one_identifier_each(doubles)
    place: Path = data.site_key or key_place(data.manifest)
    made = not place.exists()
    with site_key(place, begun=begun) as key:
        named = (f"made a site key: {place} (keep it at the site)",) if made else ()
        yield Own(loaded, doubles, key, named)
