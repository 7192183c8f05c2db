"""What hospitals said of their scans against what was opened, and the model's reference against it.

Each hospital keeps its noised sums (hospital.describing), the recording has what the server opened,
and the model's file what follows. Behind masks the sums are everybody's or nobody's.
"""

from collections.abc import Iterator

import numpy as np

from securefed.model.scan_sums import WORDS, means_of, reference_of
from securefed.privacy.counts import STEPS
from securefed.record import model_file
from securefed.record.mismatch import Mismatch
from securefed.record.noised_scores import SCAN_SUMS, NoisedAnswer
from securefed.record.recording import INDEX
from securefed.run_directory import Run


def of_sums(run: Run) -> Iterator[Mismatch]:
    """Whose they are, that they add up to what was opened, and that the reference follows."""
    if not run.settings.privacy.describes:
        return
    words = len(run.settings.model.modalities) * WORDS
    for name in run.here:
        for kind in SCAN_SUMS.values():
            one = _given(run, name, kind)
            if one and (one.run != run.about.run or len(one.steps) != words):
                yield Mismatch(run.place(name, kind.NAME), "is of another run")
                return
    if run.party == "hospital" or not (run.exposures / INDEX).is_file():
        return
    yield from _opened(run)
    yield from _released(run)


def _opened(run: Run) -> Iterator[Mismatch]:
    if not (run.settings.privacy.dp and run.settings.secure_aggregation.enabled):
        return  # exact sums are kept by nobody; without masks a sum may be of fewer hospitals
    for number, total in run.observers().replayed.described.items():
        kind = SCAN_SUMS[number]
        given = {name: _given(run, name, kind) for name in run.here}
        for name, one in given.items():
            if one is None:
                yield Mismatch(run.place(name, kind.NAME), "missing, and it is in the opened total")
        there = [one.steps for one in given.values() if one]
        if total.scans is None or len(there) < len(run.hospitals):
            continue
        if not np.array_equal(np.sum(there, axis=0), np.rint(total.scans.counts * STEPS)):
            told = "what the hospitals answered does not add up to the opened total"
            yield Mismatch(f"hospitals/*/{kind.NAME}", told)


def _released(run: Run) -> Iterator[Mismatch]:
    totals = run.observers().replayed.described
    if not (run.finished and run.learned) or len(totals) < len(SCAN_SUMS):
        return
    first, second = totals[1].scans, totals[2].scans
    means = means_of(first.counts, first.deviation) if first else None
    if first is None or second is None or means is None:
        return
    modalities = run.settings.model.modalities
    follows = reference_of(means, second.counts, second.deviation, modalities)
    kept = model_file.read_reference(run.path / model_file.NAME, modalities)
    if follows is None:
        return
    wanted, found = follows.arrays(), kept.arrays() if kept else {}
    if not all(name in found and np.allclose(found[name], each) for name, each in wanted.items()):
        told = "its reference of scans does not follow from the messages"
        yield Mismatch(model_file.NAME, told)


def _given(run: Run, name: str, kind: type[NoisedAnswer]) -> NoisedAnswer | None:
    folder = run.hospital(name)
    return kind.read(folder) if (folder / kind.NAME).is_file() else None
