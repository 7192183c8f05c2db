"""The public plan of a job: what is asked of whom, and when. Hospitals hold the server to it.

Everything that may be asked is a step with a number of its own, which travels in each request:

    1 .. R        training rounds of a cohort
    R + r         scoring of the parameters that round r starts from, by everybody; r = R + 1 are
                  the last ones, and the only ones that are scored where scores carry noise
    2R + 2        where the best of what was scored becomes the final model: that one once more,
                  which is how everybody gets to have it
    2R + 3, + 4   what training patients' scans look like (model.scan_sums), by everybody, before
                  the final parameters are scored; where the settings ask for it

A step trains, scores or describes, one of them: they are sums of their own, of vectors as long as
they need (`contribution.vector_length`), so that a hospital that is missing from one does not cost
the others. All but training is always everybody's, since two totals over different hospitals could
be subtracted.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LAST = 3  # scoring comes after both sums over scans


@dataclass(frozen=True)
class Step:
    """One thing that may be asked.

    Attributes:
        number: on the wire.
        round: the training round; of a scoring step the one that starts from what is scored.
        train: whether it trains; else it scores held-out patients, or describes scans.
        cohort: who is asked.
        describes: which sum over scans it is, 1 or 2; 0 for none.
    """

    number: int
    round: int
    train: bool
    cohort: tuple[str, ...]
    describes: int = 0

    @property
    def moment(self) -> tuple[int, bool, int]:
        """Steps in the order of their moments are in the order of time."""
        return self.round, self.train, self.describes or LAST

    @property
    def flags(self) -> tuple[bool, bool, bool]:
        """Of a request that asks for its work: train, evaluate, describe."""
        return self.train, not (self.train or self.describes), bool(self.describes)


@dataclass(frozen=True)
class Plan:
    """The server's public plan: clients, rounds, sampling and evaluation.

    Attributes:
        evaluate_every: rounds between scorings; None scores the final parameters only.
        chooses: whether the final parameters are the best that were scored, not the last ones.
        describes: whether hospitals are asked what their scans look like.
    """

    clients: tuple[str, ...]
    rounds: int
    clients_per_round: int | None
    evaluate_every: int | None
    seed: int
    chooses: bool = False
    describes: bool = False

    def cohort(self, round_number: int) -> tuple[str, ...]:
        """Who takes part. Where only some do, one order of all is gone round until it comes out
        even, and then another is drawn: at any time nobody had two turns more than another.
        """
        if self.clients_per_round is None:
            return self.clients
        everybody, asked = len(self.clients), self.clients_per_round
        again, number = divmod(round_number - 1, everybody // math.gcd(everybody, asked))
        order = np.random.default_rng([self.seed, again]).permutation(everybody)
        chosen = order.take(range(number * asked, (number + 1) * asked), mode="wrap")
        return tuple(self.clients[index] for index in sorted(chosen))

    def turns(self, client: str, rounds: range | None = None) -> int:
        """In how many rounds a client takes part; in how many of these, if they are given.

        What its noise is solved for. A server that asks in another round is refused
        (hospital.questions), and the ledger has no room for it.
        """
        if rounds is None:
            return _turns(self).get(client, 0)
        return sum(client in self.cohort(number) for number in rounds)

    @property
    def most_turns(self) -> int:
        """Of the client that takes part most often; all rounds where none is named yet."""
        return max(_turns(self).values(), default=self.rounds)

    def training(self, round_number: int) -> Step:
        """The step that trains in a round, 1 to `rounds`."""
        return Step(round_number, round_number, True, self.cohort(round_number))

    def scoring(self, round_number: int) -> Step | None:
        """The step that scores what a round starts from; None where the plan has none."""
        last = self.rounds + 1
        every = self.evaluate_every
        planned = round_number == last or (every and (round_number - 1) % every == 0)
        if not (planned and 1 <= round_number <= last):
            return None
        return Step(self.rounds + round_number, round_number, False, self.clients)

    @property
    def final(self) -> Step:
        """The step that scores the final parameters."""
        last = self.rounds + 1 + self.chooses
        return Step(self.rounds + last, last, False, self.clients)

    @property
    def describing(self) -> tuple[Step, ...]:
        """The steps that ask what scans look like, in order; none where nobody is asked."""
        first, last = 2 * self.rounds + 3, self.final.round
        sums = (1, 2) if self.describes else ()
        return tuple(Step(first + n - 1, last, False, self.clients, n) for n in sums)

    @property
    def largest(self) -> int:
        """No step has a larger number."""
        return max(each.number for each in (self.final, *self.describing))

    def step(self, number: int) -> Step | None:
        """The step with a number; None if the plan has none."""
        if 1 <= number <= self.rounds:
            return self.training(number)
        for each in self.describing:
            if number == each.number:
                return each
        return self.final if number == self.final.number else self.scoring(number - self.rounds)

    def after(self, step: Step) -> Step | None:
        """The next step in time; None if that is the final scoring, which waits for the results."""
        if not step.train:
            return self.training(step.round) if step.round <= self.rounds else None
        if step.round == self.rounds:
            return None
        return self.scoring(step.round + 1) or self.training(step.round + 1)


@lru_cache(maxsize=4)  # a hospital asks once, and in one process all of them do
def _turns(plan: Plan) -> Mapping[str, int]:
    if plan.clients_per_round is None:
        return dict.fromkeys(plan.clients, plan.rounds)
    return Counter(name for number in range(1, plan.rounds + 1) for name in plan.cohort(number))
