"""What a run says of its time: from steps where a round has many, from its first round else."""

import pytest

from securefed.config import Settings
from securefed.estimate import Estimate, in_words, shorter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def settings(**sections: object) -> Settings:
    return Settings.model_validate({"privacy": {"dp": False}, **sections})


def test_many_steps_are_measured_after_the_first_and_over_all_hospitals() -> None:
    told: list[str] = []
    clock = Clock()
    chosen = settings(training={"local_steps": 10})
    estimate = Estimate(chosen, 2, 3, told.append, clock)
    clock.now = 100.0  # the first step warms up
    estimate.stepped("a")
    estimate.stepped("b")
    clock.now = 102.0
    estimate.stepped("b")  # 1 step in 2 seconds: the other hospital's comes a moment later
    # 2 hospitals x 10 steps x 3 rounds
    assert told == [
        "time: about 2 minutes for 3 rounds; training.local_steps: 5 would take about half"
    ]
    clock.now = 500.0
    estimate.stepped("a")
    estimate.stepped("b")
    estimate.round(500.0)
    assert len(told) == 1


def test_hospitals_that_work_one_after_the_other_are_counted_as_they_do() -> None:
    told: list[str] = []
    clock = Clock()
    estimate = Estimate(settings(training={"local_steps": 10}), 100, 1, told.append, clock)
    for clock.now in (5.0, 6.0):
        estimate.stepped("a")
    assert told[0].startswith("time: about 17 minutes for 1 round;")  # 1000 steps of a second


def test_who_is_not_asked_takes_no_time() -> None:
    told: list[str] = []
    clock = Clock()
    federation = {"clients": 100, "clients_per_round": 10}
    some = settings(training={"local_steps": 10}, federation=federation)
    estimate = Estimate(some, 100, 1, told.append, clock)
    for clock.now in (5.0, 6.0):
        estimate.stepped("a")
    assert told[0].startswith("time: about 2 minutes for 1 round;")  # 100 steps of a second


def test_one_step_a_round_is_measured_by_the_first_round() -> None:
    told: list[str] = []
    estimate = Estimate(settings(), 4, 80, told.append, Clock())
    for _ in range(4):
        estimate.stepped("a")
    assert told == []
    estimate.round(0.5)
    estimate.round(0.7)
    assert told == [
        "time: about 40 seconds for 80 rounds; federation.rounds: 40 would take about half"
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.01, "1 second"),
        (89, "89 seconds"),
        (95, "2 minutes"),
        (3600, "60 minutes"),
        (5400, "1.5 hours"),
        (36000, "10 hours"),
        (60 * 3600, "2.5 days"),
    ],
)
def test_durations_are_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_encoders_that_train_are_shortened_by_smaller_images() -> None:
    model = {"train_encoders": True, "initialisation": "random", "image_size": 240}
    chosen = settings(model=model, training={"local_steps": 890})
    assert shorter(chosen) == "model.image_size: 120 would take about a quarter"


def test_a_run_of_one_round_and_one_step_is_told_too() -> None:
    chosen = settings(federation={"rounds": 1})
    assert shorter(chosen) == "a smaller training.batch_size would take less"
    rate = settings(federation={"rounds": 1}, training={"sample_rate": 0.5})
    assert shorter(rate) == "a smaller training.sample_rate would take less"
