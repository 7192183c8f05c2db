"""Whether masks hide what they should, from the bytes that travelled and from what hospitals kept.

Asked before anything is replayed: a build without masks opens its own sums without a word, and an
audit by that build says that the server sees no update. Here a hospital's own vector, as it kept
it, is held against what it sent (`masked_words`, read without the code under test):

    under the masks   what is sent, and what is left of it without the own vector, is uniform
    opened            the same without the self mask, which the server gets to take off: the masks
                      of pairs hide a vector by themselves
    between           no two masks have a piece in common, whoever's and whichever round's; no
                      vector is a shift or a constant away from what somebody sent
    beside            neither vector nor mask is anywhere else in the recording
    together          the masks of pairs cancel, with the self masks that docs/protocol.md gives

An honest run is accused once in 1 / ALARM runs at most: all tests have exact error rates.

Not seen: streams that look random to who does not know the key, from a seed that somebody can
guess; vectors that were not kept for want of room.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from securefed.evidence.masked_words import Masked, masked_words
from securefed.evidence.repeated_words import MOST_WINDOWS, Series, repeats, traces
from securefed.evidence.uniform_words import Words, oddities, reduced
from securefed.record.mismatch import Mismatch
from securefed.record.recording import BYTES, INDEX, content, sightings
from securefed.run_directory import Run

ALARM = 1e-9  # of one run
PARTS = 5  # among which it is shared out: oddities, three kinds of repeats, traces
PLACE = f"exposures/{BYTES}"


Told = Iterator[tuple[Masked, str]]


@dataclass(frozen=True, eq=False)
class Sent:
    """A masked vector beside the vectors in the clear that it can be of.

    Attributes:
        own: those kept of its round, one for each time that it was asked, (N,) each; empty where
            none was, as of scores.
    """

    masked: Masked
    own: tuple[Words, ...] = field(repr=False)

    @property
    def masks(self) -> list[Words]:
        """All that was added to each vector; what was sent, where no vector is known."""
        return self._without_own(self.masked.words)

    @property
    def of_pairs(self) -> list[Words]:
        """The same without the self mask; empty where the server cannot take that off."""
        opened = self.masked.opened
        return [] if opened is None else self._without_own(opened)

    def beginning(self, words: int) -> "Sent":
        """The same of the first words."""
        return Sent(self.masked.beginning(words), tuple(own[:words] for own in self.own))

    def _without_own(self, words: Words) -> list[Words]:
        return [reduced(words - own, self.masked.bits) for own in self.own] or [words]


def of_masks(run: Run) -> Iterator[Mismatch]:
    """What is wrong with masks, by hospital and round."""
    if not run.settings.secure_aggregation.enabled or not (run.exposures / INDEX).is_file():
        return
    kept = _kept(run)
    sent = [Sent(one, _own(one, kept)) for one in masked_words(run)]
    told: defaultdict[str, list[tuple[Masked, str]]] = defaultdict(list)
    for find in (_padding(sent), _oddities(sent), _repeats(sent), _traces(run, sent)):
        for one, text in find:
            told[one.hospital].append((one, text))
    for hospital, several in told.items():
        first, text = min(several, key=lambda each: each[0].round)
        others = {str(one) for one, _ in several} - {str(first)}
        more = f" (and in {len(others)} more sums)" if others else ""
        yield Mismatch(PLACE, f"{hospital}, {first}: not hidden by masks, {text}{more}")
    yield from _sums(run, sent)


def _kept(run: Run) -> dict[tuple[str, int], list[Words]]:
    """Hospital and round -> the vectors in the clear that it kept."""
    found: defaultdict[tuple[str, int], list[Words]] = defaultdict(list)
    for name in run.here:
        folder = run.hospital(name) / "contributions"
        for seen in sightings(folder) if (folder / INDEX).is_file() else ():
            if seen.offset is not None and not seen.size % 4:
                words = np.frombuffer(content(folder, seen), "<u4").astype(np.uint32)
                found[name, seen.round].append(words)
    return found


def _own(one: Masked, kept: dict[tuple[str, int], list[Words]]) -> tuple[Words, ...]:
    several = kept.get((one.hospital, one.round), []) if one.trains else []
    return tuple(reduced(own, one.bits) for own in several if own.size == one.words.size)


def _padding(sent: Sequence[Sent]) -> Told:
    for each in sent:
        if each.masked.padding.any():
            yield each.masked, "something travels behind its words"


def _oddities(sent: Sequence[Sent]) -> Told:
    """Of each message, and of each hospital's messages one after another."""
    found: list[tuple[float, Masked, str]] = []
    chains: defaultdict[tuple[str, int], list[Sent]] = defaultdict(list)
    for each in sent:
        one = each.masked
        chains[one.hospital, one.bits].append(each)
        for words in each.masks if each.own else []:
            found += [(p, one, f"masks: {text}") for p, text in oddities(words, one.bits)]
        for words in each.of_pairs:
            texts = oddities(words, one.bits)
            found += [(p, one, f"without the self mask: {text}") for p, text in texts]
        own = each.own[0] if len(each.own) == 1 else None
        found += [(p, one, text) for p, text in oddities(one.words, one.bits, own)]
    for several in chains.values():
        for views in ([each.masks for each in several], [each.of_pairs for each in several]):
            chain = [view[0] for view in views if view]
            if len(chain) > 1:
                whole = oddities(np.concatenate(chain), several[0].masked.bits)
                found += [(p, several[-1].masked, f"all of its sums: {text}") for p, text in whole]
    least = ALARM / PARTS / max(len(found), 1)
    yield from ((one, text) for p, one, text in found if p < least)


def _repeats(sent: Sequence[Sent]) -> Told:
    """Masks that come again, and vectors in what was sent."""
    groups = _by_width(sent)
    for bits, here in groups.items():
        alarm = ALARM / PARTS / len(groups)
        # Apart from each other: where a vector is constant, words and masks have the same steps.
        masks = [Series(i, each.masks[0]) for i, each in enumerate(here)]
        for a, b in repeats(masks, bits, alarm):
            yield here[b].masked, _again(here[a].masked, here[b].masked, "its mask")
        words = [Series(i, each.masked.words) for i, each in enumerate(here) if each.own]
        own = [Series(i, own, kept=True) for i, each in enumerate(here) for own in each.own]
        for a, b in repeats([*words, *own], bits, alarm):
            yield here[b].masked, _again(here[a].masked, here[b].masked, "its vector")
        pairs = [Series(i, words) for i, each in enumerate(here) for words in each.of_pairs[:1]]
        for a, b in repeats(pairs, bits, alarm):
            one, other = here[a].masked, here[b].masked
            # In one sum the masks of a pair are each other's negative.
            if one is other or (one.job, one.sum) != (other.job, other.sum):
                yield other, _again(one, other, "its mask without the self mask")


def _by_width(sent: Sequence[Sent]) -> dict[int, list[Sent]]:
    """Bits -> what was sent in words so wide; as much of each as all have room for."""
    groups: defaultdict[int, list[Sent]] = defaultdict(list)
    for each in sent:
        groups[each.masked.bits].append(each.beginning(MOST_WINDOWS // (3 * len(sent))))
    return groups


def _again(one: Masked, other: Masked, what: str) -> str:
    if one is other:
        return f"a piece of {what} is in it twice"
    return f"a piece of {what} is in {one}, {one.hospital}, too"


def _traces(run: Run, sent: Sequence[Sent]) -> Told:
    """Vectors and masks anywhere else in the recording, as bytes."""
    seen = [each for each in sightings(run.exposures) if each.offset is not None]
    size = sum(each.size for each in seen)
    groups = _by_width([each for each in sent if each.own])
    for bits, here in groups.items():
        needles = [Series(i, own) for i, each in enumerate(here) for own in each.own]
        needles += [
            Series(i, words, sent=each.masked.words)
            for i, each in enumerate(here)
            for words in each.masks
        ]
        messages = (content(run.exposures, each) for each in seen)
        for name, at in traces(needles, messages, size, bits, ALARM / PARTS / len(groups)):
            where = f"{seen[at].stage} of {seen[at].client}, step {seen[at].round}"
            yield here[name].masked, f"a piece of its vector or mask is in the message {where}"


def _sums(run: Run, sent: Sequence[Sent]) -> Iterator[Mismatch]:
    """Masks of pairs cancel where everybody answered, once, and every self mask is known."""
    sums: defaultdict[tuple[int, int], list[Sent]] = defaultdict(list)
    for each in sent:
        if each.masked.trains:
            sums[each.masked.job, each.masked.sum].append(each)
    for several in sums.values():
        one = several[0].masked
        asked = Counter(run.job.plan.training(one.round).cohort)
        known = all(len(each.own) == 1 and each.of_pairs for each in several)
        if not known or Counter(each.masked.hospital for each in several) != asked:
            continue
        rest = np.zeros(one.words.size, np.uint32)
        for each in several:
            rest += each.of_pairs[0]
        if reduced(rest, one.bits).any():
            names = ", ".join(sorted(asked))
            told = f"round {one.round}: masks of {names} are not those of the protocol"
            yield Mismatch(PLACE, f"{told}, they do not cancel")
