"""How many hospitals may work with the server before it sees one: the bound, in one place.

Complete graph, threshold t of n, c hospitals with the server:

- a lying server opens one vector if 2t <= n + c: it needs t shares of both its secrets, an honest
  hospital gives one kind, a corrupt one both (Bonawitz et al. 2017, section 6);
- a server that only looks needs t shares of the secret that honest hospitals give of nobody who
  survived, all from corrupt ones: c >= t;
- either way what opens is a sum over at least t - c honest hospitals, for a lying server those it
  chooses: with less than two of them, the sum is one hospital's vector.
"""

from dataclasses import dataclass

from protocols.parameters import JobRules


@dataclass(frozen=True, slots=True)
class Hiding:
    """What the masks of a round hide, and from whom.

    Attributes:
        cohort: hospitals in a round.
        lying: whether the server may lie, or only look.
        colluding: the most hospitals that may work with the server.
        together: the fewest other hospitals in a sum that such a coalition can open.
        failure: probability that any round of the job hides less, by its random graph; 0 if
            complete.
    """

    cohort: int
    lying: bool
    colluding: int
    together: int
    failure: float = 0.0

    @property
    def sentence(self) -> str:
        """One sentence for whoever runs a hospital."""
        if not self.colluding:
            hidden = "what you send stays hidden from the server, while no hospital works with it"
        else:
            works = "hospitals works" if self.colluding == 1 else "hospitals work"
            hidden = (
                f"what you send stays hidden while at most {self.colluding} of {self.cohort}"
                f" {works} with the server"
            )
        what = "" if self.lying else ", and the server follows the protocol"
        sums = f"together they learn sums over {self.together} or more of the others"
        if not self.colluding:
            sums = f"it learns sums over {self.together} or more"
        chance = f", but for a probability of {self.failure:.1g} in all" if self.failure else ""
        return f"{hidden}{what}{chance}; {sums}"


def hiding(rules: JobRules, cohort_size: int) -> Hiding:
    """The bound for a cohort of that size under the rules of a job.

    Raises:
        InvalidRules: for a cohort too small to hide anybody.
    """
    threshold = rules.threshold(cohort_size)
    lying = rules.server == "malicious"
    sparse = rules.neighbour_plan(cohort_size)
    if rules.sparse and sparse:
        colluding = int(cohort_size * rules.sparse.max_corrupt_fraction)
        return Hiding(
            cohort_size, lying, colluding, threshold - colluding, float(sparse.privacy_failure)
        )
    breaking = 2 * threshold - cohort_size if lying else threshold
    # A sum over one is that one's vector: two others at least.
    colluding = max(0, min(breaking - 1, threshold - 2))
    return Hiding(cohort_size, lying, colluding, threshold - colluding)
