"""Verdicts have one order, and read as words."""

import itertools

from securefed.verdict import Verdict, gravest, gravity


def test_failing_is_graver_than_all_and_passing_than_nothing_but_no_verdict() -> None:
    order = [None, Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.INVALID, Verdict.FAIL]
    assert sorted(order, key=gravity) == order
    for several in itertools.permutations(order):
        assert gravest(several) is Verdict.FAIL


def test_of_nothing_no_verdict_is_the_gravest() -> None:
    assert gravest([]) is None
    assert gravest([None, None]) is None


def test_a_verdict_reads_as_its_word_and_only_a_failure_stops_a_pipeline() -> None:
    assert f"{Verdict.INVALID}" == "INVALID"
    assert [each.exit_code for each in Verdict] == [0, 0, 0, 3]
