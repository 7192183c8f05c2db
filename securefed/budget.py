"""From a run's settings to its budget: what each hospital's privacy will cost, before it runs.

The settings are those `securefed run` would take; nothing is trained and no ledger is made. Sizes
of hospitals come from the caller, from the phantom settings, or from reading the patients and
dividing them as the run would. The figures are `privacy.planning`'s; with shared noise
(`privacy.placement: distributed`) the share is calibrated as `wire.description` does.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from securefed.config import Settings
from securefed.errors import ConfigurationError
from securefed.privacy.accounting import at_most
from securefed.privacy.counts import declaration_noise
from securefed.privacy.planning import (
    MOST_ROUNDS,
    HospitalPlan,
    SharedNoise,
    Training,
    affordable_rounds,
    noise_for,
    require_noise,
)
from securefed.wire.plan import Plan

# Modules that load torch are imported where they are used.

SCHEMA = 1
Question = Literal["noise", "epsilon", "rounds"]


@dataclass(frozen=True)
class Budget:
    """What a run would cost each of its hospitals.

    Attributes:
        question: what was solved for; the other two of noise, epsilon and rounds were given.
        rounds: of the run; where they were asked for, those that every hospital can afford.
        target_epsilon: what epsilon had to stay within, None where epsilon was asked for.
        hospitals: one entry each; hospitals of equal size share one.
        shared_noise: with `privacy.placement: distributed`, else None.
        notes: what the reader should know.
    """

    question: Question
    rounds: int
    target_epsilon: float | None
    hospitals: tuple[HospitalPlan, ...]
    shared_noise: SharedNoise | None
    notes: tuple[str, ...]

    @property
    def dearest(self) -> HospitalPlan:
        """The hospital with the largest epsilon."""
        return max(self.hospitals, key=lambda hospital: hospital.guarantee.counted)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values; every epsilon is an upper bound, None where there is none."""
        one = self.hospitals[0].training
        shared = self.shared_noise
        return {
            "schema": SCHEMA,
            "question": self.question,
            "rounds": self.rounds,
            "target_epsilon": self.target_epsilon,
            "delta": one.delta,
            "unit": one.unit,
            "adjacency": self.hospitals[0].guarantee.adjacency,
            "sampling": self.hospitals[0].guarantee.sampling,
            "accountant": one.accountant,
            "local_steps": one.local_steps,
            "batch_size": one.batch_size,
            "hospitals": [_as_json(each, own_noise=shared is None) for each in self.hospitals],
            "shared_noise": shared
            and {
                "share": shared.share,
                "counted": shared.counted,
                "hospitals": shared.hospitals,
                "noise_multiplier": shared.noise_multiplier,
                "of_the_sum": shared.of_the_sum,
            },
            "notes": list(self.notes),
        }


def _as_json(hospital: HospitalPlan, *, own_noise: bool) -> dict[str, Any]:
    curve = hospital.curve()
    return {
        "name": hospital.training.name,
        "records": hospital.training.records,
        "sample_rate": hospital.training.sample_rate,
        "steps": hospital.training.steps(hospital.rounds),
        "noise_multiplier": hospital.noise_multiplier,
        "noise_of_mean": hospital.noise_of_mean if own_noise else None,
        "epsilon": hospital.guarantee.counted,
        "epsilon_prv": curve[-1].prv,
        "epsilon_rdp": curve[-1].rdp,
        "affordable_rounds": hospital.affordable,
        "curve": [{"rounds": p.rounds, "prv": p.prv, "rdp": p.rdp} for p in curve],
    }


def plan_budget(
    settings: Settings,
    *,
    sizes: Mapping[str, int] | None = None,
    noise_multiplier: float | None = None,
    solve_rounds: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Budget:
    """The budget of a run with `settings`.

    Without a noise multiplier: the noise for `privacy.epsilon`. With one: the epsilon of
    `federation.rounds`, or, with `solve_rounds`, the rounds that `privacy.epsilon` pays for.

    Args:
        sizes: name -> training patients (slices where the unit is image) of each hospital; None
            takes them from the settings' data.
        say: told when patients have to be read.

    Raises:
        ConfigurationError, PrivacyError: what was asked makes no sense, or no noise does it.
        DataError: the patients cannot be read.
    """
    question = _question(noise_multiplier, solve_rounds)
    settings = _among(settings, len(sizes or ()))
    target, rounds = settings.privacy.epsilon, settings.federation.rounds
    trainings = _trainings(settings, sizes or _sizes(settings, say))
    played = _played(settings, trainings)
    affordable: Sequence[int | None] = [None] * len(trainings)
    if noise_multiplier is not None and question == "rounds":
        most = [affordable_rounds(each, noise_multiplier, target) for each in trainings]
        _require_a_round(most, trainings, noise_multiplier, target)
        affordable = lasting = [
            _lasting(_plan(settings, played, MOST_ROUNDS), names, each)
            for names, each in zip(played, most, strict=True)
        ]
        rounds = min(lasting)
    plan = _plan(settings, played, rounds)
    turns = [max(plan.turns(name) for name in names) for names in played]
    noises = [
        noise_for(training, asked, target) if noise_multiplier is None else noise_multiplier
        for training, asked in zip(trainings, turns, strict=True)
    ]
    shared = None
    if settings.privacy.placement == "distributed":
        # One noise for all hospitals: what the smallest needs, if it is asked most often.
        smallest = min(trainings, key=lambda each: each.records)
        needed = noise_multiplier or noise_for(smallest, max(turns), target)
        shared = _shared(settings, needed, rounds)
        noises = [shared.noise_multiplier] * len(trainings)
    hospitals = zip(trainings, turns, noises, affordable, strict=True)
    return Budget(
        question=question,
        rounds=rounds,
        target_epsilon=None if question == "epsilon" else target,
        hospitals=tuple(HospitalPlan(*each) for each in hospitals),
        shared_noise=shared,
        notes=tuple(_notes(settings, trainings, turns, rounds, assumed=not sizes)),
    )


def _among(settings: Settings, hospitals: int) -> Settings:
    """Settings of so many hospitals, where it matters to a hospital how many others there are."""
    distributed = settings.privacy.placement == "distributed"
    if hospitals < 2 or not (distributed or settings.federation.clients_per_round):
        return settings
    federation = settings.federation.model_copy(update={"clients": hospitals})
    return Settings.model_validate(dict(settings) | {"federation": dict(federation)})


def _question(noise_multiplier: float | None, solve_rounds: bool) -> Question:
    if noise_multiplier is None:
        if solve_rounds:
            raise ConfigurationError(
                "rounds follow from a noise multiplier and an epsilon", hint="give the noise too"
            )
        return "noise"
    require_noise(noise_multiplier)
    return "rounds" if solve_rounds else "epsilon"


def _trainings(settings: Settings, sizes: Mapping[str, int]) -> list[Training]:
    training, privacy = settings.training, settings.privacy
    noise = declaration_noise(
        privacy.patients_epsilon,
        privacy.epsilon,
        privacy.delta,
        privacy.accountant,
        privacy.unit,
    )
    return [
        Training(
            name=name,
            records=records,
            batch_size=training.batch_size,
            local_steps=training.local_steps,
            delta=privacy.delta,
            unit=privacy.unit,
            accountant=privacy.accountant,
            declaration=noise.event if noise else None,
        )
        for name, records in sizes.items()
    ]


def _sizes(settings: Settings, say: Callable[[str], None]) -> dict[str, int]:
    """Training units of each hospital, as the run would count them."""
    image = settings.privacy.unit == "image"
    if settings.data.manifest is None and not image:
        return {f"each of {settings.federation.clients}": settings.data.phantom.patients}
    from securefed.simulation.patients import load_data
    from securefed.training.patients import one_slice_records, stack

    say("reading patients")
    hospitals = load_data(settings).hospitals
    if not image:
        return {each.name: len(each.train) for each in hospitals}
    kept = settings.training.max_slices
    return {each.name: len(one_slice_records(stack(each.train, kept))) for each in hospitals}


def _played(settings: Settings, trainings: Sequence[Training]) -> list[Sequence[str]]:
    """For which hospitals of the plan each entry stands; of one entry, for all."""
    if len(trainings) > 1:
        return [(each.name,) for each in trainings]
    return [[f"hospital-{number}" for number in range(1, settings.federation.clients + 1)]]


def _plan(settings: Settings, played: Sequence[Sequence[str]], rounds: int) -> Plan:
    """Who will be asked when; what is scored in between costs training nothing."""
    asked, seed = settings.federation.clients_per_round, settings.seed
    return Plan(tuple(chain(*played)), rounds, asked, evaluate_every=None, seed=seed)


def _lasting(plan: Plan, names: Sequence[str], turns: int) -> int:
    """Rounds of the plan in which none of these is asked more often than `turns`."""
    if plan.clients_per_round is None:
        return turns
    asked: Counter[str] = Counter()
    for number in range(1, plan.rounds + 1):
        asked.update(plan.cohort(number))
        if max(asked[name] for name in names) > turns:
            return number - 1
    return plan.rounds


def _require_a_round(
    affordable: Sequence[int], trainings: Sequence[Training], noise_multiplier: float, target: float
) -> None:
    """ConfigurationError unless every hospital can afford one."""
    if min(affordable) == 0:
        poor = trainings[affordable.index(0)]
        cost = poor.spent(noise_multiplier, 1)
        raise ConfigurationError(
            f"one round with noise multiplier {noise_multiplier:g} costs {poor.name} epsilon "
            f"{at_most(cost)} at delta {poor.delta:g}, more than {target:g}",
            hint="use more noise, a smaller batch, fewer local steps, or a larger epsilon",
        )


def _shared(settings: Settings, noise_multiplier: float, rounds: int) -> SharedNoise:
    from securefed.wire.description import JobDescription, calibrated

    job = JobDescription(settings, "budget", ())
    noise = calibrated(settings, job.parameters, noise_multiplier, rounds)
    return SharedNoise.of(
        noise, settings.federation.clients_per_round or settings.federation.clients
    )


def _notes(
    settings: Settings,
    trainings: Sequence[Training],
    turns: Sequence[int],
    rounds: int,
    *,
    assumed: bool,
) -> Iterator[str]:
    if settings.privacy.seeded_noise:
        yield "privacy.seeded_noise: a run with it promises no epsilon, whatever is counted here"
    whole = [each.name for each in trainings if each.sample_rate == 1]
    if whole:
        yield (
            f"the batch is all patients of {', '.join(whole)}: sampling hides nobody there, and a "
            "smaller training.batch_size costs less"
        )
    most = settings.secure_aggregation.max_patients
    largest = max(each.records for each in trainings)
    if settings.privacy.unit == "patient" and largest > most:
        yield f"the run needs secure_aggregation.max_patients: {largest} or more, it is {most}"
    declaration = trainings[0].declaration
    if declaration:
        yield (
            f"noise of {declaration.noise_multiplier:.1f} on the number of records, which epsilon "
            "pays for too; a run's rate and noise follow from the noised number"
        )
    if settings.federation.clients_per_round:
        least = f"{min(turns)} to " if min(turns) < max(turns) else ""
        yield (
            f"by the run's plan a hospital is asked in {least}{max(turns)} of {rounds} rounds "
            f"(federation.clients_per_round, seed {settings.seed}), and noise is for these"
        )
    if assumed and settings.data.manifest is None:
        yield "sizes are those of the phantoms; give your own, or a manifest"
