"""A DICOM tree as a data set that lasts as long as a command."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from securefed.cli.data_output import progress_bar
from securefed.data.dicom.report import ImportReport
from securefed.data.dicom.tree import import_dicom
from securefed.data.export import new_dataset
from securefed.data.import_rules import ImportRules
from securefed.data.labelled import Unlabelled
from securefed.data.pseudonyms import key_beside, passing_key
from securefed.data.series_rules import read_rules
from securefed.errors import ConfigurationError


@contextmanager
def imported(
    tree: Path, modalities: Sequence[str], site_key: Path | None, *, quiet: bool
) -> Iterator[tuple[Path, ImportReport]]:
    """The data set, as `securefed data import` makes it without any option, and what it tells.

    Labels are not looked at. The folder is its owner's alone, lies where temporary files do, and
    goes when the block ends, however it does; a kill that nobody can hear leaves it there.

    Args:
        modalities: which are imported, in the model's order.
        site_key: of the pseudonyms; by default the one beside the tree, else one that nobody keeps.

    Raises:
        ConfigurationError: there is no such key, or an import knows no such modality.
        DataError: not one patient could be imported.
    """
    if site_key and not site_key.exists():
        raise ConfigurationError(
            f"there is no site key at {site_key}",
            hint="give one that securefed data import made, or leave it out",
        )
    rules = ImportRules(series=read_rules(None, modalities))
    key = passing_key(site_key or key_beside(tree))
    with tempfile.TemporaryDirectory(prefix="securefed-") as folder:
        out = Path(folder) / tree.resolve().name
        with new_dataset(out) as writer, progress_bar(quiet=quiet) as bar:
            report = import_dicom(
                tree,
                writer,
                Unlabelled(),
                key,
                rules,
                lambda what, done, total: bar.reach(done / total, f"{what} {done}/{total}"),
            )
        yield out, report
