"""A survey: what hospitals hold, in one secure sum with noise, before anything is trained.

It is a job whose public plan has no training rounds, and so one step: everybody answers, or nothing
opens (hospital.questions), as the scores of a run do. What is asked depends on no parameters, and
the answer is the vector of `model.survey`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from protocols.identity import Roster
from protocols.parameters import JobRules
from securefed.config import Settings
from securefed.errors import ConfigurationError
from securefed.model.survey import Form
from securefed.privacy.accountant import Accountant
from securefed.privacy.counts import CountNoise, count_noise
from securefed.secure_sum import secure_rules
from securefed.wire.contribution import ContributionLayout, Layout, ScoreLayout
from securefed.wire.description import counted_of
from securefed.wire.messages import Request
from securefed.wire.plan import Plan


@dataclass(frozen=True)
class _SurveyLayout(ContributionLayout):
    """A layout that is never trained with: its update is as short as one can be."""

    asked: int = field(kw_only=True)

    @property
    def scores(self) -> ScoreLayout:
        return ScoreLayout(self.clients, self.max_patients, self.score_noise, self.asked)


@dataclass(frozen=True)
class SurveyJob:
    """What everybody knows of a survey.

    Attributes:
        run: its identity, in ledgers too.
        epsilon: that it costs every patient, at the settings' delta.
        roster, rules: of the secure sum.
    """

    settings: Settings
    run: str
    epsilon: float
    roster: Roster
    rules: JobRules

    @property
    def form(self) -> Form:
        """What is asked for."""
        return form_of(self.settings)

    @property
    def noise(self) -> CountNoise:
        """What each hospital adds to its own vector."""
        return noise_of(self.settings, self.epsilon)

    @property
    def layout(self) -> Layout:
        """How answers are encoded."""
        return _layout(self.settings, self.epsilon)

    @property
    def plan(self) -> Plan:
        """No rounds, so that the one step is the final one."""
        return Plan(self.roster.names, 0, None, None, self.settings.seed)

    @property
    def request(self) -> Request:
        """What everybody is asked."""
        return Request(round=self.plan.final.number, stage="work", evaluate=True)


def survey_job(
    settings: Settings, run: str, epsilon: float, keys: Mapping[str, bytes], job: str | None = None
) -> SurveyJob:
    """The description of a survey among hospitals with these identity keys.

    Args:
        job: name of the secure sum's job, where hospitals on machines of their own agree on one.

    Raises:
        ConfigurationError: without masks, or of an epsilon that no noise does.
    """
    privacy = settings.privacy
    if not (settings.secure_aggregation.enabled and privacy.dp and privacy.unit == "patient"):
        raise ConfigurationError(
            "a survey is a secure sum with noise, about patients",
            hint="set secure_aggregation.enabled and privacy.dp to true, privacy.unit to patient",
        )
    layout = _layout(settings, epsilon)
    rules = secure_rules(settings, layout.scores.words, job=job)
    return SurveyJob(settings, run, epsilon, Roster(dict(keys)), rules)


@lru_cache(maxsize=4)  # solving takes a moment
def _noise(
    epsilon: float, delta: float, accountant: Accountant, changed: int, counted: int
) -> CountNoise:
    return count_noise(epsilon, delta, accountant, changed=changed, counted=counted)


def noise_of(settings: Settings, epsilon: float) -> CountNoise:
    """The noise with which a survey costs at most `epsilon`.

    Raises:
        ConfigurationError: an epsilon out of reach.
    """
    privacy = settings.privacy
    changed = form_of(settings).changed
    return _noise(epsilon, privacy.delta, privacy.accountant, changed, counted_of(settings))


def form_of(settings: Settings) -> Form:
    """What a survey asks of patients with these modalities."""
    return Form.of(settings.model.modalities, settings.task.classes)


def _layout(settings: Settings, epsilon: float) -> _SurveyLayout:
    return _SurveyLayout(
        parameters=1,
        clients=settings.federation.clients,
        value_range=settings.secure_aggregation.value_range,
        max_patients=settings.secure_aggregation.max_patients,
        score_noise=noise_of(settings, epsilon),
        asked=form_of(settings).words,
    )
