"""Replays the fuzzing corpus, mutates it at random, and runs the real fuzzer for a moment."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from protocols.errors import ProtocolError
from tests.fuzz import decoders, structure

HERE = Path(__file__).parent
CORPUS = sorted(p for p in (HERE / "corpus").iterdir() if p.is_file())


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.name)
def test_the_corpus_raises_nothing_but_declared_errors(path):
    decoders.one_input(path.read_bytes())


def test_the_corpus_holds_a_valid_input_for_every_target():
    """Each seed reaches its target's end, so that mutation starts from the deepest place."""
    seeds = decoders.seeds()
    assert len(seeds) == len(decoders.TARGETS)
    for name, data in seeds.items():
        assert (HERE / "corpus" / name).read_bytes() == data
        if name.startswith("ask-") or name == "masked":
            decoders.TARGETS[data[0]](data[1:])


def test_random_mutations_raise_nothing_but_declared_errors():
    rng = random.Random(2017)  # noqa: S311 (reproducible mutations, not secrets)
    inputs = [path.read_bytes() for path in CORPUS]
    for _ in range(1500):
        data = bytearray(rng.choice(inputs))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(1, max(2, len(data)))
            match rng.randrange(4):
                case 0:
                    data[at : at + 1] = bytes([rng.randrange(256)])
                case 1:
                    del data[at : at + rng.randint(1, 40)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randint(1, 9))
                case _:
                    other = rng.choice(inputs)
                    data[at:] = other[rng.randrange(len(other)) :]
        decoders.one_input(bytes(data))


def test_well_formed_mutations_reach_the_checks_and_raise_nothing_else():
    rng = random.Random(2020)  # noqa: S311 (reproducible mutations, not secrets)
    inputs = [path.read_bytes() for path in CORPUS if path.name.startswith(("a", "m"))]
    met = set()
    for _ in range(6000):
        data = structure.mutated(rng.choice(inputs), rng)
        if rng.randrange(2):
            data = structure.mutated(data, rng)
        try:
            decoders.TARGETS[data[0]](data[1:])
        except ProtocolError as error:
            met.add(type(error).__name__)
    assert met >= {
        "BadCiphertext",
        "BadSignature",
        "CohortEquivocation",
        "DuplicateSender",
        "MalformedMessage",
        "Replay",
        "RulesMismatch",
        "ThresholdMissed",
        "ThresholdTooLow",
        "UnknownSender",
        "WrongRound",
    }


def test_a_short_coverage_guided_run_finds_no_crash(tmp_path):
    pytest.importorskip("atheris", reason="atheris is not installed (extra `fuzz`)")
    grown = tmp_path / "grown"
    grown.mkdir()
    command = [sys.executable, str(HERE / "fuzz_decoders.py"), str(grown), str(HERE / "corpus")]
    options = ["-runs=3000", "-seed=1", "-max_len=2048", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 3000 runs" in done.stderr
