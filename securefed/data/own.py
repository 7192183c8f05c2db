"""Patients of a manifest that may be trained on, with the secret that divides them.

A simulated federation and a hospital of its own meet the same refusals, in the same order.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from securefed.data.identities import Doubles, find_doubles
from securefed.data.load import Loaded, load_manifest
from securefed.data.pseudonyms import SiteKey, key_place, site_key
from securefed.data.requirements import (
    require_one_identifier_each,
    require_one_name_per_site,
    require_usable,
)
from securefed.data.samples import ExampleKind


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
def own_patients(
    manifest: Path,
    image_size: int,
    modalities: Sequence[str],
    *,
    max_unusable: float,
    example: ExampleKind = "patient",
    classes: Sequence[str] = (),
    distinct_sites: bool,
    distinct_persons: bool,
    key_file: Path | None,
    begun: bool,
) -> Iterator[Own]:
    """The patients of a manifest; a key that is made goes again if the work with it fails.

    Args:
        modalities: which are read; the first is the query's.
        max_unusable: largest share of rows that may be unusable, 0..1.
        example: what a label is of.
        classes: names of several classes that labels are of; none for labels 0 and 1.
        distinct_sites: refuse names of sites that look like one.
        distinct_persons: refuse persons with two identifiers.
        key_file: of the site's secret; None takes that beside the data.
        begun: whether a run on them has begun, so that their site key must be there.

    Raises:
        DataError: they cannot be trained on as they are (securefed/data/requirements.py).
    """
    loaded = load_manifest(manifest, image_size, modalities, example=example, classes=classes)
    require_usable(loaded, max_unusable)
    if distinct_sites:
        require_one_name_per_site(loaded)
    doubles = find_doubles(loaded.patients, loaded.persons)
    if distinct_persons:
        require_one_identifier_each(doubles)
    place = key_file or key_place(manifest)
    made = not place.exists()
    with site_key(place, begun=begun) as key:
        named = (f"made a site key: {place} (keep it at the site)",) if made else ()
        yield Own(loaded, doubles, key, named)
