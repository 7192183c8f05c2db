"""What a coalition of the server and corrupt hospitals can open, by formal reasoning.

The hospitals' own code runs; nothing of it is modelled. A masked vector is a row: the vector plus
one signed formal symbol for each mask stream, two streams being the same symbol exactly if their
keys are the same bytes. A symbol is known if the coalition could compute the key: it has a private
key of one of the two ends, or enough shares of the secret behind it. Hashes, ciphers, ML-KEM and
X25519 are ideal: nothing else is known (Dolev and Yao, "On the security of public key protocols",
1983). With `x25519=False` the coalition has every X25519 private key, as of a quantum computer.

Rows open if some combination of them, with integer coefficients modulo 2^32, holds no unknown
symbol. That a set of rows opens nothing is exactly that they are independent modulo 2: if they
are, some minor is odd, hence invertible modulo 2^32, and every combination is uniform; if not, the
combination times 2^31 shows the lowest bit of a sum. So `opened` looks at parities alone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from unittest.mock import patch

from protocols import client as client_module
from protocols import participation

Row = tuple[str, int]  # a hospital, and which of the rounds that were played


@dataclass
class Knowledge:
    """All that the coalition has, and the symbols of all masked vectors.

    Attributes:
        rows: hospital and round -> keys of the streams on its vector.
        asked: hospital and round -> the statement it answered.
        ends: key of a pairwise stream -> the two public keys it was agreed with.
        pairs: key of a pairwise stream -> the two hospitals whose seeds it was made from.
        corrupt: hospitals of the coalition.
        alone: key of a self-mask stream -> hospital and round.
        private: public keys whose private keys the coalition has.
        seed_shares, key_shares: hospital and round -> places whose shares the coalition has.
        seeds, mask_keys: hospital and round -> its self-mask seed, its public mask key.
        latest: the row noted last.
        sealed: box key -> what was sealed under it.
    """

    rows: dict[Row, list[bytes]] = field(default_factory=dict)
    asked: dict[Row, bytes] = field(default_factory=dict)
    ends: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    pairs: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    corrupt: frozenset[str] = frozenset()
    alone: dict[bytes, bytes] = field(default_factory=dict)
    private: set[bytes] = field(default_factory=set)
    seed_shares: dict[Row, set[int]] = field(default_factory=lambda: defaultdict(set))
    key_shares: dict[Row, set[int]] = field(default_factory=lambda: defaultdict(set))
    seeds: dict[Row, bytes] = field(default_factory=dict)
    mask_keys: dict[Row, bytes] = field(default_factory=dict)
    latest: list[bytes] = field(default_factory=list)
    sealed: dict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note from what each key is made, while hospitals make them."""
        used = vars(participation)  # what a test put in their place included
        pair_key, mask_key, self_mask_key = (
            used[name] for name in ("pair_key", "mask_key", "self_mask_key")
        )
        pair_seed, seal = used["pair_seed"], used["seal"]
        agreed: dict[bytes, tuple[bytes, bytes]] = {}
        met: dict[bytes, tuple[str, str]] = {}

        def note_pair(own, place, peer, peer_place, rules):
            key = pair_key(own, place, peer, peer_place, rules)
            agreed[key] = (own.public, peer)
            return key

        def note_seed(seed, place, peer_seed, peer_place, rules):
            made = pair_seed(seed, place, peer_seed, peer_place, rules)
            met[made] = (rules.cohort[place], rules.cohort[peer_place])
            return made

        def note_stream(pair, seed, *context):
            key, other = mask_key(pair, seed, *context), bytes(32)
            # Each part protects only what depends on it.
            if mask_key(other, seed, *context) != key:
                self.ends[key] = agreed[pair]
            if mask_key(pair, other, *context) != key:
                self.pairs[key] = met[seed]
            return key

        def note_alone(seed, *context):
            key = self_mask_key(seed, *context)
            self.alone[key] = seed
            return key

        def note_box(key, plaintext, *context):
            self.sealed[key].add(plaintext)
            return seal(key, plaintext, *context)

        with ExitStack() as stack:
            for name, noting in (
                ("pair_key", note_pair),
                ("pair_seed", note_seed),
                ("mask_key", note_stream),
                ("self_mask_key", note_alone),
                ("seal", note_box),
            ):
                stack.enter_context(patch.object(participation, name, noting))
            # Streams stay symbols: none is ever computed.
            stack.enter_context(patch.object(client_module, "apply_masks", self._note_row))
            yield

    def _note_row(self, _words, masks, *, threads) -> None:
        self.latest = [mask.key for mask in masks]

    def unknown(self, threshold: int, *, x25519: bool = True) -> dict[Row, frozenset[bytes]]:
        """Each row's symbols that stay on it an odd number of times.

        Args:
            x25519: whether discrete logarithms are hard. If not, a stream is still unknown as long
                as the seeds of the pair are, which came in boxes; if so, seeds are not relied on.
        """
        private, seeds, dropped = set(self.private), set(), {(n, 0) for n in self.corrupt}
        for row, held in self.key_shares.items():
            if len(held) >= threshold and row in self.mask_keys:
                private.add(self.mask_keys[row])
                dropped.add(row)
        for row, held in self.seed_shares.items():
            if len(held) >= threshold and row in self.seeds:
                seeds.add(self.seeds[row])

        def known(key: bytes, played: int) -> bool:
            if key in self.alone:
                return self.alone[key] in seeds
            if x25519:
                return key not in self.ends or bool(private.intersection(self.ends[key]))
            pair = self.pairs.get(key, ())
            return not pair or any({(name, 0), (name, played)} & dropped for name in pair)

        return {
            (name, played): frozenset(
                key for key, times in Counter(keys).items() if times % 2 and not known(key, played)
            )
            for (name, played), keys in self.rows.items()
        }

    def opened(self, threshold: int, fewest: int, *, x25519: bool = True) -> tuple[Row, ...]:
        """Rows of which the coalition learns more than is promised; () if there are none.

        Less is not promised than this: what opens is a sum over `fewest` rows or more, whose
        hospitals were all asked the same.

        Args:
            threshold: shares that recover a secret.
            x25519: as in `unknown`.
        """
        rows, circuits = self.unknown(threshold, x25519=x25519), list[set[Row]]()
        for size in range(1, len(rows) + 1):
            for chosen in combinations(sorted(rows), size):
                if any(circuit <= set(chosen) for circuit in circuits):
                    continue  # several sums at once
                left: frozenset[bytes] = frozenset()
                for row in chosen:
                    left ^= rows[row]
                if not left:
                    circuits.append(set(chosen))
                    if size < fewest or len({self.asked.get(row) for row in chosen}) > 1:
                        return chosen
        return ()

    def sealed_twice(self) -> bool:
        """Whether one key, with its one nonce, sealed two different things."""
        return any(len(texts) > 1 for texts in self.sealed.values())
