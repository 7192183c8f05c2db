"""Malicious server: what the client refuses, and what it cannot refuse and what that costs.

`checks` sends a client, as shipped, the requests of a server that lies: parameters of another
architecture, not finite, or out of range; a second request for a round; an oversized message;
what breaks a rule of the job (the plan, the company of a question, lengths, keys, thresholds);
different parameters for different hospitals, so that a secure sum is one hospital's (Pasquini,
Francati & Ateniese 2022); and the one that nobody can refuse, imprint parameters of ordinary size
(`attacks.head.imprint`). `securefed.auditing` gives the client; this module knows neither transport
nor message format. What an accepted imprint yields, `attacks.head.imprinted` measures, and
`attacks.head.scattered` what a row of them does whose every step is of ordinary length.

Not covered: attacks through fusion or encoder parameters, and poisoning. That a client accepts an
imprint is as documented: differential privacy, not validation, is the defence there.
"""

import numpy as np

from attacks.errors import AuditError
from attacks.findings import Check
from attacks.malicious_server import NAME
from attacks.subject import Client
from securefed.exposure import Vector
from securefed.model.sharing import LARGEST_PARAMETER


def checks(client: Client) -> tuple[Check, ...]:
    """Try everything, each in a round of its own; all should be `sound`.

    Raises:
        AuditError: the client refuses honest parameters too, so its refusals mean nothing.
    """
    shared, imprinted = client.shared, client.imprinted
    if refusal := client.deliver(1, _bytes(shared)):
        raise AuditError(
            f"the client refuses honest parameters ({refusal}): its other refusals mean nothing"
        )
    tried: list[Check] = []

    def check(
        name: str, refusal: str, accepted: str = "accepted", *, expected: bool = True
    ) -> None:
        name = f"{name} ({client.kind})"
        detail = refusal or accepted
        tried.append(Check(NAME, name, "server", refusal != "", expected, detail))

    check("a second, different request for a round", client.deliver(1, _bytes(imprinted)))
    for number, (name, data) in enumerate(_unacceptable(shared, client.architecture), start=2):
        check(name, client.deliver(number, data))
    after = 1 + len(tried)
    check("an oversized message", client.oversized())
    costs = "within the accepted range: only differential privacy bounds what it yields"
    imprint = client.deliver(after, _bytes(imprinted))
    check("a request of a past round", client.deliver(1, _bytes(shared)))
    check("imprint parameters", imprint, costs, expected=False)
    for name, attempt in client.rules.items():
        check(name, attempt())
    if client.divided:
        gives_away = "the sum gives one hospital's update away"
        check("a secure sum over different parameters", client.divided(), gives_away)
    return tuple(tried)


def _unacceptable(shared: Vector, architecture: int) -> list[tuple[str, bytes]]:
    """Shared parameters that a client must refuse, as (name, bytes)."""

    def with_first(value: float) -> bytes:
        changed = shared.copy()
        changed[0] = value
        return _bytes(changed)

    return [
        ("parameters one too short", _bytes(shared[:-1])),
        ("parameters one too long", _bytes(np.append(shared, np.float32(0)))),
        ("no parameters", b""),
        ("parameters of half a number", _bytes(shared)[:-2]),
        ("parameters of another architecture", _bytes(np.zeros(architecture, np.float32))),
        ("a parameter that is not a number", with_first(np.nan)),
        ("an infinite parameter", with_first(np.inf)),
        ("a negative infinite parameter", with_first(-np.inf)),
        ("a parameter just over the limit", with_first(1.01 * LARGEST_PARAMETER)),
        ("a hugely scaled layer", _bytes(shared * np.float32(1e30))),
    ]


def _bytes(vector: Vector) -> bytes:
    return vector.astype("<f4").tobytes()
