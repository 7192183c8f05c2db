"""Habits of anonymisers: identifiers that say less than they should.

Two patients cannot share coordinates, so a FrameOfReferenceUID that stands with several of them
says nothing of any. An SOPInstanceUID on different images drops none: content tells images apart.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from securefed.data.dicom.header import Slice


def without_shared_frames(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """The images, without the frames of reference that stand with several patients; and notes."""
    patients: dict[str, set[str]] = defaultdict(set)
    for item in slices:
        if item.frame:
            patients[item.frame].add(item.patient_id)
    shared = {frame for frame, found in patients.items() if len(found) > 1}
    notes = [
        f"one FrameOfReferenceUID stands with {len(patients[frame])} patients; it is not believed,"
        " their scans are registered"
        for frame in sorted(shared)
    ]
    kept = [replace(item, frame="") if item.frame in shared else item for item in slices]
    return kept, notes


def repeated_instances(images: Iterable[Slice]) -> list[str]:
    """A note if different images have one SOPInstanceUID; copies are not among `images`."""
    counts = Counter((item.instance, item.frame_number) for item in images)
    repeated = [count for count in counts.values() if count > 1]
    if not repeated:
        return []
    return [
        f"{sum(repeated)} different images share {len(repeated)} SOPInstanceUID; all are kept, as"
        " their content differs"
    ]
