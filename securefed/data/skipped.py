"""Sound files that an import does not use: how many for each reason, and the first ones by name."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from securefed.wording import NAMED, counted


@dataclass
class Skipped:
    """Counts by reason; places are paths or pseudonyms, for the operator's eyes."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict, repr=False)

    def add(self, reason: str, place: str, files: int = 1) -> None:
        """Count `files` at a place."""
        self.counts[reason] = self.counts.get(reason, 0) + files
        places = self.first.setdefault(reason, [])
        if len(places) < NAMED and place not in places:
            places.append(place)

    def lines(self) -> Iterator[str]:
        """One line for each reason, the most frequent first."""
        for reason, count in sorted(self.counts.items(), key=lambda pair: -pair[1]):
            places = self.first[reason]
            more = ", ..." if count > len(places) else ""
            yield f"skipped {counted(count, 'file')}: {reason} ({', '.join(places)}{more})"
