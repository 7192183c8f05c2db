"""What hospitals answered about held-out patients, once and with noise, against what was opened."""

from collections.abc import Iterator

import numpy as np

from securefed.model.class_scores import noised_words
from securefed.model.noised_scores import NoisedScores
from securefed.privacy.counts import STEPS
from securefed.record.mismatch import Mismatch
from securefed.record.noised_scores import NoisedAnswer
from securefed.record.recording import INDEX
from securefed.run_directory import Run


def of_answers(run: Run) -> Iterator[Mismatch]:
    """Whose they are, to which question, and that behind masks they add up to the opened total."""
    if run.job.score_noise is None:
        return
    folders = {name: run.hospital(name) for name in run.here}
    given = {
        name: NoisedAnswer.read(folder)
        for name, folder in folders.items()
        if (folder / NoisedAnswer.NAME).is_file()
    }
    words = noised_words(len(run.settings.task.classes))
    for name, one in given.items():
        if one.run != run.about.run or len(one.steps) != words:
            yield Mismatch(_place(run, name), "is of another run")
            return
    if not run.settings.secure_aggregation.enabled or not (run.exposures / INDEX).is_file():
        return
    # Behind masks scores are everybody's or nobody's, and of one question.
    total = run.observers().replayed.scores.get(run.settings.federation.rounds + 1)
    if total is None or not isinstance(total.scores, NoisedScores):
        return
    for name in run.here:
        if name not in given:
            yield Mismatch(_place(run, name), "missing, and its answer is in the opened total")
            return
    questions = [one.question for one in given.values()]
    for name, one in given.items():
        if questions.count(one.question) * 2 <= len(questions):
            yield Mismatch(_place(run, name), "answers another question than the other hospitals'")
    steps = np.sum([one.steps for one in given.values()], axis=0)
    if not np.array_equal(steps, np.rint(total.scores.counts * STEPS)):
        told = "what the hospitals answered does not add up to the opened total"
        yield Mismatch(f"hospitals/*/{NoisedAnswer.NAME}", told)


def _place(run: Run, name: str) -> str:
    return run.place(name, NoisedAnswer.NAME)
