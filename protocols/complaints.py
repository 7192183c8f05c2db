"""Who said of whom that it lies, as the server keeps count over the rounds of a job.

A hospital that gets a sealed box that does not open says who sealed it, before it computes
anything. Nobody can tell from outside which of the two lies. So that neither a hospital that seals
garbage nor one that cries wolf costs the others more than one round, and none can take more than
one other with it:

- accused by two hospitals: out. One liar alone cannot do that to anybody.
- accused by the same hospital a second time: both are out. One of them lies, again and again.
- a lie that the server itself saw (a share that is not the one dealt): out at once.

The clients do not rely on any of this.
"""


class Complaints:
    """Accusations within one job.

    Attributes:
        out: name -> reason, of hospitals that further rounds should do without.
    """

    def __init__(self) -> None:
        self.out: dict[str, str] = {}
        self._accusers: dict[str, list[str]] = {}

    def hear(self, accuser: str, accused: str) -> None:
        """Take one hospital's word against another's."""
        said = self._accusers.setdefault(accused, [])
        if accuser in said:
            for name in (accused, accuser):
                self._remove(name, f"{accuser} accused {accused} twice: one of the two lies")
        said.append(accuser)
        if len(set(said)) > 1:
            self._remove(accused, f"accused by {' and '.join(sorted(set(said)))}")

    def saw(self, liar: str, what: str) -> None:
        """Take note of a lie that needs nobody's word."""
        self._remove(liar, what)

    def _remove(self, name: str, why: str) -> None:
        self.out.setdefault(name, why)
