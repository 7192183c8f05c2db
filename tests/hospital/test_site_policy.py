"""policy.yaml refuses by its key, before anything is read, and fails closed."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from securefed.config import Settings
from securefed.errors import ConfigurationError, PolicyRefused
from securefed.hospital import policy as policy_file
from securefed.hospital.policy import Policy
from tests.tiny import changed, tiny

DIGEST = "ab" * 32


def settings(**sections: Any) -> Settings:
    noised = {"privacy": {"evaluation_epsilon": 2.0}}
    return Settings.model_validate(changed(changed(tiny(), **noised), **sections))


def require(policy: Policy, patients: int = 100, parameters: int = 1000, **sections: Any) -> None:
    policy.require(settings(**sections), DIGEST, parameters, patients)


def test_the_defaults_allow_a_usual_run() -> None:
    require(Policy())


@pytest.mark.parametrize(
    ("key", "policy", "sections", "told"),
    [
        ("agreements", {"agreements": ["cd" * 32]}, {}, "agreement abab"),
        ("differential_privacy", {}, {"privacy": {"dp": False}}, "there is none"),
        ("run_epsilon", {"run_epsilon": 7.9}, {}, "the run has 8"),
        ("evaluation_epsilon", {"evaluation_epsilon": 1.0}, {}, "the run has 2"),
        ("evaluation_epsilon", {}, {"privacy": {"evaluation_epsilon": None}}, "no limit"),
        ("secret_noise", {}, {"privacy": {"seeded_noise": True}}, "from a seed"),
        ("secure_aggregation", {}, {"secure_aggregation": {"enabled": False}}, "there is none"),
        ("smallest_cohort", {"smallest_cohort": 5}, {}, "asks 4 hospitals"),
        (
            "smallest_cohort",
            {"smallest_cohort": 4},
            {"federation": {"clients": 8, "clients_per_round": 3}},
            "asks 3 hospitals",
        ),
        ("largest_update", {"largest_update": 999}, {}, "1000 parameters"),
        ("smallest_training_set", {"smallest_training_set": 101}, {}, "100 patients"),
        ("keep_contributions", {"keep_contributions": False}, {}, "exposures.record"),
    ],
)
def test_what_it_does_not_allow_is_refused_by_its_key(
    key: str, policy: dict[str, Any], sections: dict[str, Any], told: str
) -> None:
    with pytest.raises(PolicyRefused, match=told) as refused:
        require(Policy.model_validate(policy), **sections)
    assert refused.value.key == key


def test_what_it_need_not_demand_can_be_allowed() -> None:
    lenient = Policy(differential_privacy=False, secure_aggregation=False, secret_noise=False)
    require(lenient, privacy={"dp": False}, secure_aggregation={"enabled": False})
    require(Policy(keep_contributions=False), exposures={"record": False})
    for digest in (DIGEST, DIGEST[:32], DIGEST.upper()):
        require(Policy(agreements=(digest,)))


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [(("08:00", "18:00"), "08:00", "18:00"), (("20:00", "06:00"), "02:30", "12:00")],
)
def test_hours_may_pass_midnight(hours: tuple[str, str], inside: str, outside: str) -> None:
    policy = Policy(hours=hours)
    policy.require_hour(datetime.fromisoformat(f"2026-11-30T{inside}:00"))
    with pytest.raises(PolicyRefused, match=outside) as refused:
        policy.require_hour(datetime.fromisoformat(f"2026-11-30T{outside}:00"))
    assert refused.value.key == "hours"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("run_epsilom: 3", "unknown key run_epsilom"),
        ("run_epsilon: lots", "run_epsilon"),
        ('hours: ["8 in the morning", "18:00"]', "hours"),
        ("secret_noise: 1", "secret_noise"),
        ("agreements: [abababababababab]", "'abababababababab' is no digest: 32 to 64 digits"),
        (f"agreements: [{'x' * 32}]", "is no digest"),
    ],
)
def test_a_wrong_policy_is_an_error_and_no_default(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=told) as refused:
        policy_file.read(tmp_path / "policy.yaml")
    assert refused.value.hint


def test_a_missing_policy_is_an_error_and_no_default(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        policy_file.read(tmp_path / "policy.yaml")
