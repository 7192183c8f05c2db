"""Coverage-guided fuzzing of every decoder with atheris (extra `fuzz`).

    python tests/fuzz/fuzz_decoders.py tests/fuzz/corpus -max_total_time=600 -max_len=4096

A crash is written to crash-*; put it into the corpus under a telling name with its fix, and
`test_fuzz_corpus.py` replays it for ever.
"""

import random
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["protocols"]):
    from tests.fuzz import decoders
from tests.fuzz.structure import mutated


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """libFuzzer's own mutation, or one that keeps the message well-formed, by turns."""
    if seed % 2:
        return atheris.Mutate(data, max_size)
    return mutated(data, random.Random(seed))[:max_size]  # noqa: S311 (mutations, not secrets)


if __name__ == "__main__":
    atheris.Setup(sys.argv, decoders.one_input, custom_mutator=mutate)
    atheris.Fuzz()
