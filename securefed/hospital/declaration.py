"""What a hospital says of the size of its training set: once for the run, with noise.

A number of patients that is exact tells, to whoever knows all patients but one, whether that one is
among them; a hospital that is late in one round gives it away by the difference of two sums. So the
number is noised before anything is made of it, at a cost that is in the ledger first, and all that
leaves follows from the noised one: weight, sampling rate and the noise multiplier. The last is no
detail. It shows in the spread of every update, and over the 80 rounds of a default run it would
tell the number to within two patients.

Nobody declares fewer than a batch, also where the number is exact: then what a noised sum is
divided by is `training.batch_size`, a setting, and no function of how many patients there are. With
`training.sample_rate` it follows from the declared number, which is at least one over the rate. A
patient counts as much as another's all the same, since weight and rate follow from one number.

Noise that is drawn again averages out. The result stays in the hospital's folder, and every round,
every resumption and every repetition uses it. A crash between ledger and file costs one declaration
more; a run that has begun and has lost the file does not go on.
"""

from pathlib import Path

from securefed.config import Settings
from securefed.errors import RunError
from securefed.privacy.counts import CountNoise, declared_number
from securefed.privacy.ledger import Ledger, replay_key
from securefed.privacy.noise import CryptographicSource, SeededSource
from securefed.record.declared import Declared
from securefed.training.trainer import TrainingSet

ROUND = 0  # in the ledger: before the first
LARGEST_RECORDS = 2**31


def least_declared(settings: Settings) -> TrainingSet:
    """As many records as the sampling needs; where these are images, of at least one patient."""
    least = settings.training.sampling.least
    return TrainingSet(least if settings.privacy.unit == "patient" else 1, least)


def training_set(
    exact: TrainingSet,
    noise: CountNoise,
    folder: Path,
    ledger: Ledger,
    *,
    run: str,
    least: TrainingSet,
    most: int,
    seed: int | None,
    begun: bool,
) -> TrainingSet:
    """What the hospital declares in this run: as it did before, or drawn now.

    Args:
        exact: of its training set.
        least: what it declares at least.
        most: a weight is no larger.
        seed: of the noise; None for secret noise.
        begun: whether the run is past its start here, so that there must be a declaration.

    Raises:
        BudgetExceeded: the ledger has no room for it.
        RunError: it is missing, damaged, or of another run.
    """
    if (folder / Declared.NAME).exists():
        before = Declared.read(folder)
        if before.run != run:
            raise RunError(
                f"{folder / Declared.NAME} is of another run",
                hint="put back the one that belongs here, from a backup",
            )
        return TrainingSet(before.patients, before.records)
    if begun:
        raise RunError(
            f"{folder / Declared.NAME} is missing: what this hospital declared is not known",
            hint="bring the file back; another number would be another release",
        )
    key = None
    if seed is not None:
        key = replay_key(f"declared\0{ledger.client}\0{seed}\0{exact}".encode())
    ledger.reserve(ROUND, noise.event, run=run, replay_key=key)
    source = (
        CryptographicSource() if seed is None else SeededSource(seed, "declared", ledger.client)
    )
    patients = declared_number(exact.patients, noise, source, least=least.patients, most=most)
    records = patients
    if noise.changed > 1:
        records = declared_number(
            exact.records, noise, source, least=least.records, most=LARGEST_RECORDS
        )
    Declared(run=run, patients=patients, records=records).write(folder)
    return TrainingSet(patients, records)
