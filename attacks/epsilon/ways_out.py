"""What would settle a claim that an epsilon audit had not the power to test."""

from dataclasses import replace

from attacks.epsilon.composed_power import WANTED_POWER, CanaryView
from attacks.epsilon.gaussian_pair import normal_enough, pair_power
from attacks.epsilon.scene import Scene, Seen
from attacks.epsilon.trade_off import SubsampledGaussian

NUMBERS = (50, 100, 150, 200, 250, 300, 350)  # of canaries
TIMES = (1, 2, 4)  # as many rounds
COALITION = (
    "the coalition's audit (--observer coalition), or the server's of a run with --no-secure"
)


def way_out(scene: Scene, seen: Seen) -> str:
    """The run or the observer that has the power, or why there is none."""
    training, claim = scene.subject.training, scene.claimed
    if claim is None:
        return ""
    if training.optimizer != "sgd":
        return "a run with training.optimizer: sgd; of other scores the law is not known"
    if seen.kind == "changes":
        return f"{COALITION}: who sees only released parameters cannot settle it"
    view = scene.view(seen)
    if seen.kind == "means":
        return (
            f"{COALITION}: in a mean canaries lie under {view.noise_ratio:.1f} times the noise of "
            "their hospital"
        )
    room = scene.canaries.directions.shape[1] - 1
    for times in TIMES:
        longer = _longer(view, times, claim, training.delta)
        for count in (each for each in NUMBERS if each <= room):
            if not normal_enough(longer, training.delta, claim):
                continue
            power = pair_power(count // 2, count // 2, longer, claim, training.delta)
            if power >= WANTED_POWER:
                return (
                    f"a run of {times * training.rounds} rounds with --canaries {count}, where "
                    f"half the noise is noticed with probability {power:.2f}"
                )
    return (
        f"nothing that canaries show: {room} is all there is room for, and {TIMES[-1]} times the "
        "rounds are too few; the direct tests measure the noise itself"
    )


def _longer(view: CanaryView, times: int, claim: float, delta: float) -> CanaryView:
    """The same run with so many times the rounds, and the noise that its claim then takes."""
    if times == 1:
        return view
    mechanism = SubsampledGaussian(view.mechanism.sample_rate, times * view.mechanism.steps)
    noise = mechanism.noise_multiplier(claim, delta)
    return replace(view, mechanism=mechanism, claimed_noise=noise, rounds=times * view.rounds)
