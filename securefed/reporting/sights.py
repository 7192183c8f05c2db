"""Who can see what in a run: the one source of it, for the report page and the documentation.

The configuration, the smallest sum of a round and where the noise is added decide which sentence is
true. docs/threat-model.md has the reasons, and these sentences in a table for every configuration
(docs/generate_who_sees_what.py).
"""

from dataclasses import dataclass

from securefed.reporting.facts import Sight


@dataclass(frozen=True)
class Scored:
    """What bounds one noised scoring of held-out patients, in words.

    Attributes:
        epsilon: with the noise that counts.
        alone: with one hospital's own noise only, once the others' is subtracted.
    """

    epsilon: str
    alone: str


def sights(
    configuration: str,
    smallest_sum: int,
    placement: str | None,
    colluding: int,
    epsilon: str,
    *,
    declared: bool,
    scored: Scored | None,
    described: bool = False,
) -> list[Sight]:
    """What server, peer, coalition and outsider see.

    Args:
        configuration: plain, dp, secure or dp+secure.
        smallest_sum: hospitals in the sum of the round that had fewest; fewer than there are, after
            dropouts or where cohorts are sampled.
        placement: of the noise, "local" or "distributed"; None without DP.
        colluding: with distributed noise, the hospitals that may work with the server.
        epsilon: in words, for the bounds; "" without DP.
        declared: whether hospitals' numbers of patients carry noise.
        scored: what bounds noised scores; None where scores are exact.
        described: whether it is told what training patients' scans look like.
    """
    dp, secure = "dp" in configuration, "secure" in configuration
    shared_noise = placement == "distributed"
    bound = f"differential privacy: {epsilon}" if dp else "nothing bounds it"
    noised = "noised " if dp else ""
    numbers = "noised number of patients" if declared else "number of patients"
    return [
        _server(secure, noised, numbers, scored, bound, described),
        _peer(dp, smallest_sum, shared_noise, bound, described),
        _coalition(dp, shared_noise, colluding, numbers, scored, bound, described),
        Sight(
            observer="outsider",
            who="anybody with the released model",
            short="sees the released model",
            sees="The final model"
            + (", trained with noise." if dp else ", exact.")
            + (f" It says what training patients' scans look like{_noise(dp)}." * described),
            bound=bound,
            exposed=False,
        ),
    ]


def _noise(dp: bool) -> str:
    """Of sums over scans."""
    return ", with noise" if dp else ", exactly"


def _server(
    secure: bool, noised: str, numbers: str, scored: Scored | None, bound: str, described: bool
) -> Sight:
    if secure:
        sees = (
            f"One weighted sum of {noised}updates per round, the total {numbers}, "
            f"{'one noised total of' if scored else 'total'} held-out counts, and who took part; "
            "no single hospital's part of them."
        )
    else:
        sees = (
            f"Every hospital's {noised}update in every round, its {numbers} and "
            f"{'once its noised' if scored else 'its'} held-out counts."
        )
    if described:
        whose = "of all hospitals together" if secure else "of each hospital"
        sees += f" At the end, {whose}, two {noised}sums over training patients' scans."
    bound += _held_out(bool(noised), scored.epsilon if scored else None)
    return Sight(
        observer="server",
        who="the coordinator",
        short="sees sums only" if secure else f"sees every hospital's {noised}update",
        sees=sees,
        bound=("secure aggregation hides the parts; " if secure else "") + bound,
        exposed=not secure,
    )


def _held_out(dp: bool, epsilon: str | None) -> str:
    """What bounds held-out counts, who are others than the patients that epsilon is about."""
    if not dp:
        return ""  # nothing bounds anything
    if epsilon is None:
        return "; held-out counts are exact, and nothing bounds them"
    return f"; for held-out patients {epsilon}"


def _peer(dp: bool, smallest_sum: int, shared_noise: bool, bound: str, described: bool) -> Sight:
    sees = "The shared parameters of every round, hence the mean update. "
    exposed = smallest_sum == 2
    if exposed:
        sees += (
            "Less its own update, that of a round of two is the other hospital's, "
            f"{'noised' if dp else 'exactly'}. Secure aggregation does not hide it."
        )
    else:
        sees += f"Less its own update, that mixes at least {smallest_sum - 1} hospitals."
    if described:
        sees += f" The means of all training patients' scans{_noise(dp)}."
    if shared_noise and exposed:
        bound = "only the other hospital's share of the noise"
    return Sight(
        observer="peer",
        who="another hospital",
        short="sees the other's update" if exposed else "sees the shared model",
        sees=sees,
        bound=bound,
        exposed=exposed,
    )


def _coalition(
    dp: bool,
    shared_noise: bool,
    colluding: int,
    numbers: str,
    scored: Scored | None,
    bound: str,
    described: bool,
) -> Sight:
    kind = "noised" if dp else "exact"
    update = f"the {kind} update of the one hospital left"
    if shared_noise:
        update = "the update of the one hospital left with only its share of the noise"
        bound = f"epsilon holds for up to {colluding} colluding hospitals, not for all but one"
    counts = "its held-out counts"
    if scored:
        counts = "once its held-out counts with its own noise"
    bound += _held_out(dp, scored.alone if scored else None)
    return Sight(
        observer="coalition",
        short=f"of all but one sees the last one's {kind} update",
        who="the server with all hospitals but one",
        sees=f"In every round {update}, its {numbers} and {counts}."
        + (f" Its two {kind} sums over training patients' scans." * described),
        bound=bound,
        exposed=True,
    )
