"""The ledgers against what was trained: every contribution that anything shows has been reserved.

A ledger that is lost, of somebody else, an old copy, or that had rows taken out holds less than
recordings, kept contributions and metrics show, and an epsilon from it would be too small.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from securefed.errors import PrivacyError, RunError
from securefed.evidence.agreements import agreements
from securefed.playback.attempts import attempts_by_job, contents
from securefed.privacy import ledger_file, statement
from securefed.privacy.accounting import Event, Guarantee, at_most, largest
from securefed.privacy.statement import Statement
from securefed.record.agreement import Agreement
from securefed.record.mismatch import Mismatch
from securefed.record.noised_scores import SCAN_SUMS, NoisedAnswer
from securefed.record.recording import INDEX, Sighting, sightings
from securefed.record.summary import Summary
from securefed.run_directory import Run
from securefed.training.mechanism import build_mechanism
from securefed.wire.description import declaration_of, scan_noises_of, score_noise_of
from securefed.wire.messages import decode_reply

ROUND_OF_DECLARATION = 0
OF_THE_RUN = ("delta", "accountant", "first budget")  # where a ledger is one run's
SAME_EPSILON = 1e-6  # different machines may round differently


def of_terms(run: Run) -> Iterator[Mismatch]:
    """Whose the ledgers are, and of what."""
    privacy = run.settings.privacy
    alone = run.party == "hospital"
    for name in run.here:
        if not privacy.dp and run.ledger(name).exists() and not alone:
            told = "there is a ledger, and run.json says privacy.dp: false"
            yield Mismatch(_place(run, name), told)
    for name, one in _ledgers(run).items():
        for term, found, wanted in (
            ("client", one.client, name),
            ("unit", one.unit, privacy.unit),
            ("delta", one.delta, privacy.delta),
            ("accountant", one.accountant, privacy.accountant),
            ("first budget", one.budgets[0], privacy.epsilon),
        ):
            # A site's ledger has a limit of its own, at terms of its own.
            if found != wanted and not (alone and term in OF_THE_RUN):
                yield Mismatch(_place(run, name), f"{term} is {found}, the run's is {wanted}")


def of_chains(run: Run) -> Iterator[Mismatch]:
    """Whether every row of the ledgers is as it was written, and none is missing in between."""
    for name in _ledgers(run):
        try:
            statement.read_whole(run.ledger(name))
        except PrivacyError:
            yield Mismatch(_place(run, name), "its chain is broken: a row was changed or taken out")


def of_events(run: Run) -> Iterator[Mismatch]:
    """Noise, sampling rate and steps of every reservation, as the settings give them."""
    settings, beside = run.settings, _beside(run)
    for name, one in _ledgers(run).items():
        agreed = _agreement(run, name)
        if agreed is None:
            continue  # told already
        costs = _cost(run, agreed)
        if agreed.event != costs:
            told = f"a round costs {agreed.event}, the settings give {costs}"
            yield Mismatch(run.place(name, Agreement.NAME), told)
        yield from _evaluations(run, name, one)
        for entry in one.reservations:
            if entry.run != run.about.run:
                continue
            where = f"round {entry.round} is reserved"
            events = beside if entry.round == ROUND_OF_DECLARATION else [agreed.event]
            if entry.event not in events:
                told = " or ".join(map(str, events)) or "None"
                yield Mismatch(_place(run, name), f"{where} as {entry.event}, not {told}")
            if entry.seeded != settings.privacy.seeded_noise:
                noise = "seeded" if entry.seeded else "cryptographic"
                yield Mismatch(
                    _place(run, name), f"{where} with {noise} noise, not {settings.privacy.noise}"
                )
            if not 0 <= entry.round <= settings.federation.rounds:
                told = f"{where}, of {settings.federation.rounds} rounds"
                yield Mismatch(_place(run, name), told)


def _beside(run: Run) -> list[Event]:
    """What is reserved in no round: a declaration, sums over scans."""
    declaration = declaration_of(run.settings)
    noises = [declaration] if declaration else []
    return [each.event for each in (*noises, *scan_noises_of(run.settings).values())]


def _evaluations(run: Run, name: str, one: Statement) -> Iterator[Mismatch]:
    """Releases about held-out patients: their noise, and what it costs."""
    noise, privacy = score_noise_of(run.settings), run.settings.privacy
    wanted = noise.event if noise else None
    what = "a release about held-out patients is reserved"
    for each in one.evaluations:
        if each.run != run.about.run:
            continue
        if each.event != wanted:
            yield Mismatch(_place(run, name), f"{what} as {each.event}, not {wanted}")
        if each.seeded != privacy.seeded_noise:
            told = "seeded" if each.seeded else "cryptographic"
            yield Mismatch(_place(run, name), f"{what} with {told} noise, not {privacy.noise}")


def of_contributions(run: Run) -> Iterator[Mismatch]:
    """As many reservations of each round as contributions to it."""
    if not run.settings.privacy.dp:
        return
    shown = _contributions(run)
    for name in run.here:
        answers = sum((run.hospital(name) / each.NAME).is_file() for each in SCAN_SUMS.values())
        shown[name][ROUND_OF_DECLARATION] = bool(declaration_of(run.settings)) + answers
    for name, one in _ledgers(run).items():
        answered = (run.hospital(name) / NoisedAnswer.NAME).is_file()
        if answered and run.about.run not in {each.run for each in one.evaluations}:
            yield Mismatch(_place(run, name), f"holds no release of {NoisedAnswer.NAME}")
        attempts = one.attempts(run.about.run)
        short = {}
        for number, times in sorted(shown[name].items()):
            # The very same release again, of seeded noise, is reserved once.
            needed = min(times, 1) if run.settings.privacy.seeded_noise else times
            if attempts[number] < needed:
                short[number] = (attempts[number], needed)
        if short:
            number, (has, needs) = next(iter(short.items()))
            yield Mismatch(
                _place(run, name),
                f"holds {has} of {needs} reservations of round {number}"
                + (f", and too few of {len(short) - 1} more rounds" if len(short) > 1 else "")
                + "; messages, metrics or kept contributions show that it was trained",
            )


def of_summary(run: Run) -> Iterator[Mismatch]:
    """Epsilon and what it means, as composed anew from the ledgers."""
    summary, privacy = run.summary, run.settings.privacy
    ledgers = _ledgers(run)
    guarantees = {name: one.guarantee() for name, one in ledgers.items()}
    for name, told, follows in (
        ("noise", summary.noise, privacy.noise),
        ("delta", summary.delta, privacy.delta if privacy.dp else None),
        ("privacy_unit", summary.privacy_unit, privacy.unit if privacy.dp else None),
        ("accountant", summary.accountant, privacy.accountant if privacy.dp else None),
    ):
        if told != follows:
            yield Mismatch(Summary.NAME, f"{name} is {told}, run.json has {follows}")
    if len(ledgers) < len(run.hospitals) and privacy.dp:
        return  # those that are missing are told
    yield from _epsilons(run, guarantees)


def _epsilons(run: Run, guarantees: dict[str, Guarantee]) -> Iterator[Mismatch]:
    summary, last = run.summary, {line.client: line for line in run.metrics.clients}
    promised = {name: each.epsilon for name, each in guarantees.items()}
    by_client: dict[str, float | None] = {**(summary.epsilon_by_client or {})}
    places: list[tuple[str, str, float | None, float | None]] = [
        (Summary.NAME, "epsilon", summary.epsilon, largest(guarantees.values())),
        (
            Summary.NAME,
            "evaluation_epsilon",
            summary.evaluation_epsilon,
            run.evaluation.epsilon if run.evaluation else None,
        ),
    ]
    for name in run.hospitals:
        claimed = promised.get(name)
        places.append((Summary.NAME, f"epsilon_by_client of {name}", by_client.get(name), claimed))
        if name in last:
            places.append(("metrics.jsonl", f"epsilon of {name}", last[name].epsilon, claimed))
    for each in run.hospital_results:
        place = run.place(each.name, each.NAME)
        places.append((place, "epsilon", each.epsilon, promised.get(each.name)))
    for file, what, told, follows in places:
        if not _same(told, follows):
            yield Mismatch(file, f"{what} is {at_most(told)}, the ledgers give {at_most(follows)}")


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or abs(one - other) <= SAME_EPSILON


def _ledgers(run: Run) -> dict[str, Statement]:
    """Those that are there."""
    if not run.settings.privacy.dp:
        return {}
    paths = {name: run.ledger(name) for name in run.here}
    return {name: statement.read(path) for name, path in paths.items() if path.is_file()}


def _agreement(run: Run, name: str) -> Agreement | None:
    folder = run.hospital(name)
    return Agreement.read(folder) if (folder / Agreement.NAME).is_file() else None


def _cost(run: Run, agreed: Agreement) -> Event | None:
    """What a round costs a hospital: the mechanism that settings and declared numbers give."""
    settings, records = run.settings, agreed.declared_records
    job = run.job
    if settings.smallest_matters and run.agreement is None:
        smallest = min(each.declared_records for each in agreements(run).values())
        job = replace(job, smallest_training_set=smallest)
    rate = settings.training.sampling.rate(records)
    mechanism = build_mechanism(job, agreed.hospital, records)
    return mechanism.event(rate, settings.training.local_steps)


def _contributions(run: Run) -> dict[str, Counter[int]]:
    """Hospital -> round -> how often it contributed, by whatever shows it most often."""
    most: dict[str, Counter[int]] = defaultdict(Counter)
    for shown in (_in_metrics(run), _in_messages(run), _kept(run)):
        for name, rounds in shown.items():
            most[name] |= rounds
    return most


def _in_metrics(run: Run) -> dict[str, Counter[int]]:
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for line in run.metrics.repeated:
        if line.patients:  # the final line scores only
            for name in line.survivors:
                found[name][line.round] += 1
    return found


def _in_messages(run: Run) -> dict[str, Counter[int]]:
    found: dict[str, Counter[int]] = defaultdict(Counter)
    if not (run.exposures / INDEX).is_file():
        return found
    last = run.settings.federation.rounds
    for _, attempts in attempts_by_job(run.exposures):
        for attempt in attempts:
            if not 1 <= attempt.number <= last:
                continue  # it scores
            told = {
                name
                for exchange in attempt.exchanges
                if exchange.stage == "work"
                for name, seen in exchange.replies.items()
                if not _refused(run.exposures, seen)
            }
            for name in told:
                found[name][attempt.number] += 1
    return found


def _refused(folder: Path, seen: Sighting) -> bool:
    """Whether a reply is a refusal; one of which only the size was kept is none."""
    if seen.offset is None:
        return False
    (data,) = contents(folder, {seen.client: seen}).values()
    try:
        return bool(decode_reply(data).refusal)
    except RunError:
        return False  # what the server could not read had been made all the same


def _kept(run: Run) -> dict[str, Counter[int]]:
    found: dict[str, Counter[int]] = {}
    for name in run.here:
        folder = run.hospital(name) / "contributions"
        if (folder / INDEX).is_file():
            found[name] = Counter(seen.round for seen in sightings(folder))
    return found


def _place(run: Run, name: str) -> str:
    return run.place(name, ledger_file.NAME)
