"""From a run's settings to its budget: what each hospital's privacy will cost, before it runs.

The settings are those `securefed run` would take; nothing is trained and no ledger is made. Sizes
of hospitals come from the caller, from the phantom settings, or from reading the patients and
dividing them as the run would. The figures are `privacy.planning`'s; whose
noise it is (`privacy.placement`) is compared in `placements`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from securefed.config import Settings
from securefed.errors import ConfigurationError
from securefed.placements import Cast, Placed, Placement, among, compared
from securefed.privacy.accounting import at_most
from securefed.privacy.planning import (
    MOST_ROUNDS,
    HospitalPlan,
    SharedNoise,
    Training,
    affordable_rounds,
    require_noise,
)
from securefed.privacy.sampling import Batch
from securefed.wire.description import declaration_of, scan_noise_of
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
        noise_of_update: by placement, the run's own first: standard deviation of the noise in the
            mean gradient of a round in which all answer, in clipping norms. The other one is left
            out where these settings cannot have it.
        notes: what the reader should know.
    """

    question: Question
    rounds: int
    target_epsilon: float | None
    hospitals: tuple[HospitalPlan, ...]
    shared_noise: SharedNoise | None
    noise_of_update: Mapping[Placement, float]
    notes: tuple[str, ...]

    @property
    def dearest(self) -> HospitalPlan:
        """The hospital with the largest epsilon."""
        return max(self.hospitals, key=lambda hospital: hospital.guarantee.counted)

    @property
    def quieter(self) -> Placement | None:
        """The placement with less noise in a round's mean; None where only one is possible."""
        quietest, _ = min(self.noise_of_update.items(), key=lambda each: each[1])
        return quietest if len(self.noise_of_update) > 1 else None

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
            "batch_size": one.sampling.size if isinstance(one.sampling, Batch) else None,
            "hospitals": [_as_json(each, own_noise=shared is None) for each in self.hospitals],
            "shared_noise": shared
            and {
                "share": shared.share,
                "counted": shared.counted,
                "hospitals": shared.hospitals,
                "noise_multiplier": shared.noise_multiplier,
                "of_the_sum": shared.of_the_sum,
            },
            "noise_of_update": dict(self.noise_of_update),
            "quieter": self.quieter,
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
    settings = among(settings, len(sizes or ()))
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
    cast = Cast(plan, tuple(trainings), played)
    placed = Placed.of(settings, cast, noise_multiplier)
    noises, why_not = compared(settings, cast, placed, noise_multiplier)
    hospitals = zip(trainings, cast.turns, placed.noise_multipliers, affordable, strict=True)
    return Budget(
        question=question,
        rounds=rounds,
        target_epsilon=None if question == "epsilon" else target,
        hospitals=tuple(HospitalPlan(*each) for each in hospitals),
        shared_noise=placed.shared,
        noise_of_update=noises,
        notes=(*_notes(settings, cast, assumed=not sizes), *why_not),
    )


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
    noise, of_scans = declaration_of(settings), scan_noise_of(settings)
    return [
        Training(
            name=name,
            records=records,
            sampling=training.sampling,
            local_steps=training.local_steps,
            delta=privacy.delta,
            unit=privacy.unit,
            accountant=privacy.accountant,
            declaration=noise.event if noise else None,
            description=of_scans.event if of_scans else None,
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


def _played(settings: Settings, trainings: Sequence[Training]) -> tuple[Sequence[str], ...]:
    """For which hospitals of the plan each entry stands; of one entry, for all."""
    if len(trainings) > 1:
        return tuple((each.name,) for each in trainings)
    return ([f"hospital-{number}" for number in range(1, settings.federation.clients + 1)],)


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


def _notes(settings: Settings, cast: Cast, *, assumed: bool) -> Iterator[str]:
    trainings, turns = cast.trainings, cast.turns
    if settings.privacy.seeded_noise:
        yield "privacy.seeded_noise: a run with it promises no epsilon, whatever is counted here"
    whole = [each.name for each in trainings if each.sample_rate == 1]
    if whole and settings.training.batch_size:
        yield (
            f"the batch is all patients of {', '.join(whole)}: sampling hides nobody there, and a "
            "smaller training.batch_size costs less"
        )
    rates = {each.sample_rate for each in trainings}
    if settings.smallest_matters and len(rates) > 1:
        yield (
            f"the smallest hospital's rate of {max(rates):.4f} sets everybody's noise; "
            "training.sample_rate in place of training.batch_size is one rate for all"
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
    description = trainings[0].description
    if description:
        yield (
            f"noise of {description.noise_multiplier:.1f} patients on each hospital's sums over "
            "scans (privacy.reference_epsilon), which epsilon pays for too"
        )
    if settings.federation.clients_per_round:
        least = f"{min(turns)} to " if min(turns) < max(turns) else ""
        yield (
            f"by the run's plan a hospital is asked in {least}{max(turns)} of {cast.plan.rounds} "
            f"rounds (federation.clients_per_round, seed {settings.seed}), and noise is for these"
        )
    if assumed and settings.data.manifest is None:
        yield "sizes are those of the phantoms; give your own, or a manifest"
