"""The public job description: what hospitals and server agree on, and all that follows from it.

It holds settings, names, public keys and rules, and one public number about the hospitals' data.
Whoever has it builds the same network, layout, plan and strategy; nothing in it is private, and
nothing else is needed to open a hospital beside its own patients, or a server beside a transport.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from protocols.hiding import hiding
from protocols.identity import Roster
from protocols.parameters import JobRules
from securefed.config import Settings
from securefed.errors import ConfigurationError
from securefed.model import class_scores, scan_sums, weight_files
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.sharing import flatten, shared_names
from securefed.model.strategies import build_strategy
from securefed.model.strategies.strategy import Strategy
from securefed.model.weight_files import Origin
from securefed.privacy.accountant import Accountant
from securefed.privacy.accounting import Event, Guarantee, solve_noise_multiplier
from securefed.privacy.counts import (
    LARGEST_PART,
    STEPS,
    CountNoise,
    count_noise,
    declaration_noise,
)
from securefed.privacy.distributed import RingNoise, calibrate, counted_shares
from securefed.privacy.ring_code import RingCode, padded
from securefed.secure_sum import cohort_size, secure_rules
from securefed.wire.blocks import Blocks
from securefed.wire.contribution import ContributionLayout, Layout, bits_for, scan_layout
from securefed.wire.plan import Plan
from securefed.wire.shared_noise import SharedNoiseLayout


def initial_network(settings: Settings) -> tuple[FusionNetwork, tuple[Origin, ...]]:
    """The network every hospital starts from, and the files of its encoders' weights, if any.

    The caller's own copy. Torch's generator is left as it was.
    """
    written = [path.stat().st_mtime_ns for path in settings.model.weights if path.is_file()]
    network, origins = _built(settings, tuple(written))
    return copy.deepcopy(network), origins


@lru_cache(maxsize=4)
def _built(
    settings: Settings, written: tuple[int, ...]
) -> tuple[FusionNetwork, tuple[Origin, ...]]:
    """Built again after its files were written again."""
    model = settings.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = FusionNetwork(NetworkShape.of(model, settings.task))
    if model.initialisation == "random":
        return network, ()
    return network, weight_files.load(network, *(model.weights or [weight_files.shipped()]))


@dataclass(frozen=True)
class JobDescription:
    """What everybody knows of a job.

    Attributes:
        run: the run's identity, in ledgers too; the same after a resume.
        hospitals: all of them, in order.
        smallest_training_set: no hospital declares fewer patients; each checks it against its own
            number and refuses the job if it does not hold. Shared noise is solved for it. None
            where nobody needs to know (`Settings.smallest_matters`).
        roster, rules: of secure aggregation; None without it.
    """

    settings: Settings
    run: str
    hospitals: tuple[str, ...]
    smallest_training_set: int | None = None
    roster: Roster | None = None
    rules: JobRules | None = None

    @cached_property
    def _start(self) -> tuple[FusionNetwork, tuple[Origin, ...]]:
        return initial_network(self.settings)

    @property
    def network(self) -> FusionNetwork:
        """What everybody starts from; copy it before you change it."""
        return self._start[0]

    @property
    def weights(self) -> tuple[Origin, ...]:
        """The files of public weights that the encoders start from; none if they are random."""
        return self._start[1]

    @property
    def weights_sha256(self) -> str | None:
        """Of those files together; None if there are none."""
        return weight_files.digest(self.weights) if self.weights else None

    @cached_property
    def shared_names(self) -> list[str]:
        """Names of the shared parameters, in vector order."""
        return shared_names(self.network, self.settings.federation.shared)

    @cached_property
    def shared(self) -> NDArray[np.float64]:
        """The shared parameters that round 1 starts from, (P,)."""
        named = dict(self.network.named_parameters())
        return flatten(named, self.shared_names).astype(np.float64)

    @property
    def parameters(self) -> int:
        """P, how many parameters are shared."""
        return len(self.shared)

    @property
    def plan(self) -> Plan:
        """Who is asked in which round."""
        federation = self.settings.federation
        return Plan(
            clients=self.hospitals,
            rounds=federation.rounds,
            clients_per_round=federation.clients_per_round,
            evaluate_every=None if self.score_noise else federation.evaluate_every,
            seed=self.settings.seed,
            chooses=federation.patience is not None,
            describes=self.settings.privacy.describes,
        )

    @property
    def strategy(self) -> Strategy:
        """What the server does with a mean update."""
        federation = self.settings.federation
        return build_strategy(federation.strategy, federation)

    @cached_property
    def shared_noise(self) -> RingNoise | None:
        """The noise that hospitals share out; None if each hospital's is its own.

        Solved at training.sample_rate, or the largest rate that any hospital has, for as many
        rounds as the plan asks anybody: shares are alike, so that whoever is asked less often
        spends less.

        Raises:
            ConfigurationError, PrivacyError: no noise share does what is asked.
        """
        most_turns = self.plan.most_turns
        return _solved_noise(self.settings, self.parameters, self.smallest_training_set, most_turns)

    @property
    def score_noise(self) -> CountNoise | None:
        """The noise on held-out scores; None where they are exact."""
        return score_noise_of(self.settings)

    @property
    def promised(self) -> Guarantee | None:
        """What every hospital's ledger holds this run to; None without differential privacy."""
        privacy, noise = self.settings.privacy, self.shared_noise
        if not privacy.dp:
            return None
        return Guarantee(
            counted=privacy.epsilon,
            delta=privacy.delta,
            unit=privacy.unit,
            accountant=privacy.accountant,
            noise=privacy.noise,
            noise_from=noise.counted if noise else 1,
        )

    @property
    def promised_evaluation(self) -> Guarantee | None:
        """The same of held-out patients; None where their scores are exact."""
        privacy, noise = self.settings.privacy, self.score_noise
        if noise is None or privacy.evaluation_epsilon is None:
            return None
        return Guarantee(
            counted=privacy.evaluation_epsilon,
            delta=privacy.delta,
            unit="held-out patient",
            accountant=privacy.accountant,
            noise=privacy.noise,
            noise_from=noise.event.noise_from,
            sampling="no",
        )

    @cached_property
    def layout(self) -> Layout:
        """How contributions are encoded."""
        return layout_of(self.settings, self.parameters, self.shared_noise)

    @property
    def canary_hospital(self) -> str | None:
        """Whose records the run's canaries join; None in a run without.

        Raises:
            ConfigurationError: the settings count further than there are hospitals.
        """
        count, position = self.settings.canaries.count, self.settings.canaries.hospital
        if count and position > len(self.hospitals):
            raise ConfigurationError(
                f"canaries.hospital is {position}, but there are {len(self.hospitals)} hospitals",
                hint=f"set it to 1 to {len(self.hospitals)}",
            )
        return self.hospitals[position - 1] if count else None

    def with_keys(self, keys: Mapping[str, bytes], job: str | None = None) -> "JobDescription":
        """The description of a new job among hospitals with these identity keys.

        With secure aggregation on, it gets a roster and rules of its own; a name of a job is never
        used twice.

        Args:
            job: its name, where hospitals on machines of their own agree on one.
        """
        settings = self.settings
        if not settings.secure_aggregation.enabled:
            return self
        layout = self.layout
        rules = secure_rules(
            settings,
            layout.words,
            layout.scores.words,
            *([layout.scans.words] if layout.scans else []),
            modulus_bits=layout.modulus_bits,
            job=job,
        )
        return replace(self, roster=Roster(dict(keys)), rules=rules)


def layout_of(settings: Settings, parameters: int, noise: RingNoise | None) -> Layout:
    """How contributions of `parameters` values are encoded; with `noise`, shares of it and all."""
    clients, max_patients = settings.federation.clients, settings.secure_aggregation.max_patients
    scans = None
    if settings.privacy.describes:
        modalities = len(settings.model.modalities)
        scans = scan_layout(clients, max_patients, scan_noise_of(settings), modalities)
    if noise:
        return SharedNoiseLayout(
            code=RingCode(parameters, settings.privacy.clip_norm, noise),
            clients=clients,
            max_patients=max_patients,
            sampling=settings.training.sampling,
            learning_rate=settings.training.learning_rate,
            score_noise=score_noise_of(settings),
            score_parts=score_parts_of(settings),
            classes=len(settings.task.classes),
            scans=scans,
        )
    secure = settings.secure_aggregation
    bits = bits_for(
        secure.rounding_error,
        clients=clients,
        value_range=secure.value_range,
        max_patients=max_patients,
        patients=settings.training.sampling.least,
    )
    share = settings.federation.sent_share
    blocks = Blocks.of(parameters, share, settings.seed) if share < 1 else None
    return ContributionLayout(
        blocks.sent if blocks else parameters,
        clients,
        secure.value_range,
        max_patients,
        score_noise_of(settings),
        bits,
        score_parts_of(settings),
        len(settings.task.classes),
        blocks,
        scans,
    )


def declaration_of(settings: Settings) -> CountNoise | None:
    """The noise on what each hospital declares of its training set; None where that is exact.

    Raises:
        ConfigurationError: no noise does what is asked.
    """
    privacy = settings.privacy
    if not privacy.dp:
        return None
    return declaration_noise(
        privacy.patients_epsilon,
        privacy.epsilon,
        privacy.delta,
        privacy.accountant,
        privacy.unit,
    )


def scan_noise_of(settings: Settings) -> CountNoise | None:
    """The noise that each hospital adds to both sums over its scans; None where they are exact.

    All of it is a hospital's own, so that what it promises does not rest on others' noise. Its
    `changed` is of both sums together.

    Raises:
        ConfigurationError: no noise does what is asked.
    """
    privacy = settings.privacy
    if not privacy.dp or privacy.reference_epsilon is None:
        return None
    return _scan_noise(
        min(privacy.reference_epsilon, LARGEST_PART * privacy.epsilon),
        privacy.delta,
        privacy.accountant,
        (scan_sums.FIRST + scan_sums.SECOND) * len(settings.model.modalities),
    )


def scan_noises_of(settings: Settings) -> dict[int, CountNoise]:
    """The same, of each sum by its number; none where they are exact."""
    noise, modalities = scan_noise_of(settings), len(settings.model.modalities)
    groups = {1: scan_sums.FIRST, 2: scan_sums.SECOND} if noise else {}
    return {n: replace(noise, changed=each * modalities) for n, each in groups.items() if noise}


@lru_cache(maxsize=4)  # solving takes a moment
def _scan_noise(epsilon: float, delta: float, accountant: Accountant, changed: int) -> CountNoise:
    return count_noise(epsilon, delta, accountant, changed=changed)


def beside_training(settings: Settings) -> list[Event]:
    """What training patients spend in a run beside its rounds; nothing without DP."""
    noises = declaration_of(settings), scan_noise_of(settings)
    return [noise.event for noise in noises if noise]


def score_noise_of(settings: Settings) -> CountNoise | None:
    """The noise that each hospital adds to its held-out scores; None where they are exact.

    Behind masks scores open over everybody or not at all, also for a server that lies, so that the
    noise of all hospitals counts but of those that collude. Where masks do not withstand so many,
    and on sparse graphs, which are proven for the vectors of many and not for every one's, each
    hospital adds all of the noise, as without masks.

    Raises:
        ConfigurationError: no noise does what is asked.
    """
    privacy = settings.privacy
    if not privacy.dp or privacy.evaluation_epsilon is None:
        return None
    return count_noise(
        privacy.evaluation_epsilon,
        privacy.delta,
        privacy.accountant,
        changed=class_scores.changed(len(settings.task.classes)),
        counted=counted_of(settings),
    )


def score_parts_of(settings: Settings) -> int:
    """In what parts of a patient exact scores travel: whole ones where each has one example."""
    return 1 if settings.task.example == "patient" else STEPS


def counted_of(settings: Settings) -> int:
    """Hospitals whose noise counts together in a sum that opens over everybody or not at all.

    Behind masks all but those that may collude; where masks do not withstand so many, and on sparse
    graphs, a hospital's own alone.
    """
    privacy, secure, clients = settings.privacy, settings.secure_aggregation, settings.federation
    if not secure.enabled or secure.graph != "complete":
        return 1
    withstood = hiding(secure_rules(settings, 1), clients.clients).colluding
    return clients.clients - privacy.colluding if privacy.colluding <= withstood else 1


def calibrated(
    settings: Settings, parameters: int, noise_multiplier: float, rounds: int
) -> RingNoise:
    """The noise share with which a round costs as much as a step of `noise_multiplier`.

    For the fewest survivors that the clients let a round have.

    Raises:
        ConfigurationError, PrivacyError: no noise share does what is asked.
    """
    dimension, cohort = padded(parameters), cohort_size(settings)
    sampling, most = settings.training.sampling, settings.secure_aggregation.max_patients
    fewest = secure_rules(settings, dimension).threshold(cohort)
    return calibrate(
        noise_multiplier,
        dimension=dimension,
        rounds=rounds,
        counted=counted_shares(cohort, fewest, settings.privacy.colluding),
        hospitals=cohort,
        expected_batch=sampling.unit * sampling.most_parts(most) * cohort,
    )


@lru_cache(maxsize=8)  # of equal descriptions; solving takes a second
def _solved_noise(
    settings: Settings, parameters: int, smallest: int | None, turns: int
) -> RingNoise | None:
    privacy = settings.privacy
    if privacy.placement == "local":
        return None
    if smallest is None and settings.smallest_matters:
        raise ConfigurationError(
            "privacy.placement: distributed needs the size of the smallest training set",
            hint="agree on a number of patients that each hospital has, or on training.sample_rate",
        )
    multiplier = solve_noise_multiplier(
        privacy.epsilon,
        privacy.delta,
        settings.training.sampling.rate(smallest or 1),
        turns,
        privacy.accountant,
        beside_training(settings),
    )
    return calibrated(settings, parameters, multiplier, settings.federation.rounds)
