"""Which runs a comparison consists of, and the proof that only what must differ differs.

A case is a configuration, with DP also an epsilon; every case runs once per seed. Within a seed all
cases have the same patients, splits, initial weights and cohorts, because all four follow from the
seed and from settings that no case changes. Across seeds everything is drawn anew (of real scans:
the splits), so that an interval over seeds says how far another study of the kind could be off.

`require_alike` holds finished runs to that, by what their run.json files recorded.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import ValidationError

from securefed.config import Configuration, Settings
from securefed.data.load import FederatedData, fingerprint
from securefed.errors import ConfigurationError, RunError
from securefed.record.run_file import RunFile
from securefed.settings_file import dotted

CONFIGURATIONS: tuple[Configuration, ...] = get_args(Configuration)

#: All that cases of one seed may differ in. Shared noise (placement) exists with dp+secure only.
MAY_DIFFER = (
    "privacy.dp",
    "privacy.epsilon",
    "privacy.placement",
    "secure_aggregation.enabled",
)
MOST_SEEDS = 100


@dataclass(frozen=True)
class Case:
    """One configuration; `epsilon` exactly with differential privacy."""

    configuration: Configuration
    epsilon: float | None

    @property
    def name(self) -> str:
        return self.configuration + ("" if self.epsilon is None else f" epsilon {self.epsilon:g}")

    @property
    def folder(self) -> str:
        return self.name.replace("+", "-").replace(" ", "-")


@dataclass(frozen=True)
class Plan:
    """All runs of a comparison.

    Attributes:
        base: settings that every run shares but for MAY_DIFFER and the seed.
        baselines: the privacy levels to train baselines at: None for no DP, else epsilon.
        data_shares: shares of each hospital's training patients to train on as well, 0 to 1.
        refused: why baselines and shares that were asked for are not trained, or "".
    """

    base: Settings
    cases: tuple[Case, ...]
    seeds: tuple[int, ...]
    baselines: tuple[float | None, ...] = ()
    data_shares: tuple[float, ...] = ()
    refused: str = ""

    def settings(self, case: Case, seed: int) -> Settings:
        """The settings of one run.

        Raises:
            ConfigurationError: the case contradicts the base settings.
        """
        values = self.base.model_dump()
        values["seed"] = seed
        values["evaluation"]["baselines"] = False
        values["secure_aggregation"]["enabled"] = "secure" in case.configuration
        values["privacy"]["dp"] = case.epsilon is not None
        # Curves and intervals over patients need every score; who compares holds all patients.
        values["privacy"]["evaluation_epsilon"] = None
        if case.epsilon is not None:
            values["privacy"]["epsilon"] = case.epsilon
        if case.configuration != "dp+secure":
            values["privacy"]["placement"] = "local"
        try:
            return Settings.model_validate(values)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfigurationError(
                f"{case.name} does not go with the other settings: {reason}",
                hint="leave that configuration out with --configurations, or change --config",
            ) from None

    @property
    def runs(self) -> int:
        return len(self.cases) * len(self.seeds)


def plan(
    base: Settings,
    configurations: Sequence[str],
    epsilons: Sequence[float],
    seeds: int,
    *,
    baselines: str = "plain",
    data_shares: Sequence[float] = (),
) -> Plan:
    """Which runs to make.

    Args:
        configurations: of the four.
        epsilons: budgets for the private ones.
        seeds: how many, from the base settings' own on.
        baselines: "none", "plain" (without DP), or "all" (also at each epsilon).
        data_shares: shares of the training patients to train on besides all of them.

    Raises:
        ConfigurationError: a name or number that is not among what is possible.
    """
    _require_possible(base, configurations, epsilons, seeds, data_shares)
    private = [name for name in CONFIGURATIONS if name in configurations and "dp" in name]
    budgets = sorted(set(epsilons))
    cases = [Case(name, None) for name in ("plain", "secure") if name in configurations]
    cases += [Case(name, epsilon) for epsilon in budgets for name in private]
    levels = {"none": (), "plain": (None,), "all": (None, *(budgets if private else ()))}[baselines]
    refused = ""
    if base.data.manifest is not None and private:
        refused = (
            "baselines release more about real patients than epsilon pays for; compare without DP "
            "(--configurations plain,secure) to have them"
        )
        levels, data_shares = (), ()
    return Plan(
        base,
        tuple(cases),
        tuple(range(base.seed, base.seed + seeds)),
        levels,
        tuple(sorted(data_shares)),
        refused,
    )


def _require_possible(
    base: Settings,
    configurations: Sequence[str],
    epsilons: Sequence[float],
    seeds: int,
    data_shares: Sequence[float],
) -> None:
    if unknown := [name for name in configurations if name not in CONFIGURATIONS]:
        raise ConfigurationError(
            f"--configurations: there is no {unknown[0]!r}", hint=f"of {', '.join(CONFIGURATIONS)}"
        )
    if not configurations:
        raise ConfigurationError("--configurations names none", hint="for instance plain,dp+secure")
    if not 1 <= seeds <= MOST_SEEDS:
        raise ConfigurationError(
            f"--seeds must be 1 to {MOST_SEEDS}, got {seeds}", hint="3 is a start"
        )
    if any("dp" in name for name in configurations) and not epsilons:
        raise ConfigurationError("--epsilons names none", hint="for instance 1,2,4,8")
    for epsilon in epsilons:
        if not 0 < epsilon <= 1000:
            raise ConfigurationError(
                f"--epsilons: each must be over 0 and at most 1000, got {epsilon:g}",
                hint="for instance 1,2,4,8",
            )
    for share in data_shares:
        if not 0 < share < 1:
            raise ConfigurationError(
                f"a share of the patients must be between 0 and 1, got {share:g}"
            )
    if base.canaries.count:
        raise ConfigurationError(
            f"canaries.count is {base.canaries.count}: every run would train on other canaries",
            hint="compare without canaries; audit a run of its own with them",
        )


def baseline_case(level: float | None) -> Case:
    """The configuration baselines of a privacy level are trained in: masks change no result."""
    return Case("plain", None) if level is None else Case("dp", level)


def splits_fingerprint(data: FederatedData) -> str:
    """SHA-256 over which patient lies where: hospital by hospital, training and held out."""
    digest = hashlib.sha256(b"securefed splits 1")
    for hospital in data.hospitals:
        for side in (hospital.train, hospital.test):
            digest.update(f"{hospital.name}\0{len(side)}\0".encode())
            digest.update(fingerprint(side, data.key).encode())
    return digest.hexdigest()


def require_alike(records: Iterable[RunFile]) -> None:
    """Hold the run.json contents of one seed's runs to the promise of this page.

    Raises:
        RunError: two of them differ in data, initial weights, seed, versions of what computes, or
            in a setting that is not in MAY_DIFFER.
    """
    first: RunFile | None = None
    for record in records:
        if first is None:
            first, settings = record, dotted(record.settings)
            continue
        if record.data != first.data:
            raise RunError("two runs of one seed differ in data (run.json)")
        if record.model != first.model:
            raise RunError("two runs of one seed differ in model (run.json)")
        for key, value in dotted(record.settings).items():
            if key not in MAY_DIFFER and value != settings.get(key):
                raise RunError(f"two runs of one seed differ in {key} (run.json)")
        if record.environment.packages != first.environment.packages:
            raise RunError(
                "two runs of one seed were made with different package versions (run.json)",
                hint="compare in a new --out",
            )
