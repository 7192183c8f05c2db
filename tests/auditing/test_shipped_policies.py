"""The policies beside the default load, keep its gates, and are as strict as they say."""

from pathlib import Path

import pytest

from attacks.policy import Policy
from securefed.auditing.policy import read_policy

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "policies"
FILES = sorted(FOLDER.glob("*.yaml"))
DEFAULT = read_policy()


HONEST = 4.0  # a surprise beyond is no honest run's


def limits(policy: Policy) -> dict[tuple[str, str, str], float]:
    """What each judged figure may be; a figure that is only reported may be anything."""
    infinite = float("inf")
    return {
        (t.attack, t.metric, t.scene): infinite if t.at_most is None else t.at_most
        for t in policy.thresholds
    }


def test_there_are_a_stricter_and_a_laxer_policy() -> None:
    assert [path.stem for path in FILES] == ["research", "strict"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_policy_loads_names_itself_and_who_set_it(path: Path) -> None:
    policy = read_policy(path)
    assert policy.name == path.stem
    assert policy.set_by
    assert policy.primary == DEFAULT.primary
    assert limits(policy).keys() == limits(DEFAULT).keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_policy_softens_the_gates_that_make_an_answer_count(path: Path) -> None:
    assert read_policy(path).gates == DEFAULT.gates


def test_strict_and_research_lie_on_their_sides_of_the_default() -> None:
    strict, research = (read_policy(FOLDER / f"{name}.yaml") for name in ("strict", "research"))
    for key, limit in limits(DEFAULT).items():
        assert limits(strict)[key] <= limit <= limits(research)[key]
        # What every policy only reports has no sides, nor whether a run does what it claims.
        assert limits(strict)[key] < limit or limits(strict)[key] in (float("inf"), HONEST)
    assert limits(strict) != limits(DEFAULT) != limits(research)
    assert strict.confidence > DEFAULT.confidence >= research.confidence
    powers = [each.power("epsilon") for each in (strict, DEFAULT, research)]
    assert all(powers)
    assert [rule.minimum_power for rule in powers if rule] == [0.9, 0.8, 0.5]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_policy_speaks_for_counsel(path: Path) -> None:
    assert "compliant" not in path.read_text().lower()
