"""The public job description: everybody builds the same from it, and nothing in it is private."""

import numpy as np
import pytest
import torch

from protocols.identity import IdentityKey
from securefed.config import Settings
from securefed.errors import ConfigurationError
from securefed.model.sharing import flatten
from securefed.wire.description import JobDescription, initial_network

HOSPITALS = tuple(f"hospital-{number}" for number in range(1, 71))


def described(hospitals: tuple[str, ...], **sections: dict[str, object]) -> JobDescription:
    federation = {"clients": len(hospitals), **sections.pop("federation", {})}
    values = {"model": {"image_size": 32}, "federation": federation, **sections}
    return JobDescription(Settings.model_validate(values), "run", hospitals)


def keys(hospitals: tuple[str, ...]) -> dict[str, bytes]:
    return {name: IdentityKey.generate().public for name in hospitals}


def test_two_who_have_it_start_from_the_same_network_and_no_generator_moves() -> None:
    before = torch.get_rng_state()
    first, second = described(HOSPITALS[:4]), described(HOSPITALS[:4])
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shared.tobytes() == second.shared.tobytes()
    assert first.parameters == len(first.shared) == first.layout.words - 1
    named = dict(first.network.named_parameters())
    assert np.array_equal(flatten(named, first.shared_names), first.shared.astype(np.float32))


def test_a_network_is_the_callers_own() -> None:
    job = described(HOSPITALS[:4])
    network, _ = initial_network(job.settings)
    with torch.no_grad():
        next(iter(network.parameters())).add_(1.0)
    again = described(HOSPITALS[:4])
    assert again.shared.tobytes() == job.shared.tobytes()


def test_with_keys_it_has_a_roster_and_a_job_of_its_own_each_time() -> None:
    job, names = described(HOSPITALS[:4]), HOSPITALS[:4]
    first, second = (job.with_keys(keys(names)) for _ in range(2))
    for each in (first, second):
        assert each.roster is not None
        assert each.rules is not None
        assert tuple(each.roster.keys) == names
        assert each.rules.vector_lengths == (job.layout.words, 16)  # noised scores
        assert each.rules.minimum_cohort == 4
    assert first.rules != second.rules, "a job's name is never used twice"
    clear = described(names, secure_aggregation={"enabled": False}).with_keys(keys(names))
    assert (clear.roster, clear.rules) == (None, None)


def test_exact_scores_have_fine_bins_and_a_scoring_every_so_many_rounds() -> None:
    noised, exact = (
        described(HOSPITALS[:4], privacy={"evaluation_epsilon": each}) for each in (2.0, None)
    )
    assert (noised.layout.scores.words, exact.layout.scores.words) == (16, 1024)
    assert [n for n in range(1, 82) if noised.plan.scoring(n)] == [81]
    assert [n for n in range(1, 82) if exact.plan.scoring(n)] == [*range(1, 81, 5), 81]


@pytest.mark.parametrize(("graph", "complete"), [("complete", True), ("sparse", False)])
def test_the_setting_makes_a_large_cohort_mask_with_a_few(graph: str, complete: bool) -> None:
    job = described(HOSPITALS, secure_aggregation={"graph": graph}).with_keys(keys(HOSPITALS))
    assert job.rules is not None
    assert job.roster is not None
    rules = job.rules.for_round(job.roster, 1, HOSPITALS)
    assert rules.complete is complete
    assert (rules.degree == 69) is complete
    assert rules.degree >= 20


def test_the_canaries_hospital_is_counted_from_one_and_must_exist() -> None:
    names = HOSPITALS[:4]
    assert described(names).canary_hospital is None
    assert described(names, canaries={"count": 5, "hospital": 2}).canary_hospital == "hospital-2"
    beyond = described(names, canaries={"count": 5, "hospital": 5})
    with pytest.raises(ConfigurationError, match="there are 4 hospitals"):
        _ = beyond.canary_hospital


def test_shared_noise_needs_the_public_number_and_follows_it() -> None:
    noise = {"placement": "distributed", "delta": 1e-3}
    job = described(HOSPITALS[:4], privacy=noise, training={"batch_size": 5})
    with pytest.raises(ConfigurationError, match="smallest training set"):
        _ = job.layout
    small, large = (
        JobDescription(job.settings, "run", job.hospitals, size).shared_noise for size in (10, 40)
    )
    assert small is not None
    assert large is not None
    assert small.noise_multiplier > large.noise_multiplier


def test_it_holds_nothing_of_a_patient() -> None:
    job = described(HOSPITALS[:4]).with_keys(keys(HOSPITALS[:4]))
    fields = {name: getattr(job, name) for name in job.__dataclass_fields__}
    assert fields.keys() == {
        "settings",
        "run",
        "hospitals",
        "smallest_training_set",
        "roster",
        "rules",
    }
