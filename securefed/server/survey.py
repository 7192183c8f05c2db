"""The server's side of a survey: one secure sum over everybody, and what it says."""

import time
from collections.abc import Callable
from pathlib import Path

from securefed.errors import RoundAborted
from securefed.model.noised_scores import NoisedScores
from securefed.model.survey import Survey
from securefed.record import anchors, memberships
from securefed.record.metrics import Metrics
from securefed.record.run_file import unit_in_words
from securefed.record.summary import Summary, costs, performance
from securefed.record.survey import SurveyFile, greys, numbers
from securefed.server.jobs import begin
from securefed.server.membership import Among, take_leave
from securefed.server.summation import SecureSummation
from securefed.wire import openings
from securefed.wire.agreement import FederationAgreement
from securefed.wire.openings import Openings
from securefed.wire.survey import SurveyJob
from securefed.wire.transport import Transport


def ask(job: SurveyJob, transport: Transport, folder: Path, simulation: str) -> SurveyFile:
    """Ask all hospitals of a survey once.

    Args:
        folder: where the server remembers whom it asked to open the sum.
        simulation: what the patients are, if not people with scans of their own.

    Raises:
        RoundAborted: somebody did not answer, or what opened is no sum of theirs.
        AskedBefore: the sum may have been opened before, and not everybody answers again.
    """
    settings, privacy = job.settings, job.settings.privacy
    summation = SecureSummation(
        transport,
        job.layout,
        job.roster,
        job.rules,
        len(job.roster.names),
        settings.federation.timeout_s,
        openings=Openings(folder / openings.NAME),
    )
    summed = summation.sum(job.request, job.plan.final.cohort, None)
    scores = summed.total.scores
    if not isinstance(scores, NoisedScores):
        raise RoundAborted("the sum of a survey is without noise", hint="nothing of it is shown")
    survey = Survey(job.form, scores.counts, scores.deviation)
    seeded = privacy.seeded_noise
    return SurveyFile(
        run=job.run,
        hospitals=job.roster.names,
        simulation=simulation or None,
        epsilon=None if seeded else job.epsilon,
        delta=privacy.delta,
        accountant=privacy.accountant,
        privacy_unit=unit_in_words("patient", simulation),
        noise="seeded" if seeded else "cryptographic",
        noise_from=job.noise.counted,
        deviation=survey.deviation,
        modalities=survey.form.modalities,
        acquired=survey.form.acquired,
        labels=survey.form.labels,
        patients=numbers(survey),
        greys=greys(survey),
    )


def serve_survey(
    folder: Path,
    agreement: FederationAgreement,
    transport: Transport,
    tell: Callable[[str], None],
    hello_s: float,
) -> Summary:
    """The one job of an agreement on a survey, from hello to survey.json.

    Raises:
        RunError: somebody is missing, or as `ask`; another job may be tried.
    """
    started = time.perf_counter()
    membership, present = begin(folder, agreement, 0, transport, tell, hello_s)
    job = agreement.survey_job(membership)
    found = ask(job, Among(transport, present.refused), folder, present.simulation)
    found.write(folder)
    tell(f"counted by all {len(found.hospitals)} hospitals together: {folder / found.NAME}")
    summary = Summary(
        configuration=job.settings.configuration,
        rounds=0,
        clients=len(found.hospitals),
        patients=None,
        simulation=found.simulation,
        canaries=None,
        local_auc=None,
        noise=found.noise,
        epsilon=found.epsilon,
        epsilon_by_client=None,
        delta=found.delta,
        privacy_unit=found.privacy_unit,
        accountant=found.accountant,
        **costs(Metrics(()), [], 0),
        wall_seconds=time.perf_counter() - started,
        survivors_by_round=(),
        rounds_aborted=0,
        **performance(None),
    )
    summary.write(folder)
    anchors.append(folder, take_leave(transport, agreement.roster, present))
    memberships.note(folder, membership, "finished", 0)
    return summary
