"""One stage of a step: the same kind of question to several hospitals, and what came of it.

Whatever comes back is untrusted: a reply that is late, cannot be read, belongs elsewhere or refuses
drops its sender, with the reason. A refusal for another hospital's fault names that one's place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from securefed.errors import RunError
from securefed.wire import messages
from securefed.wire.limits import Limits
from securefed.wire.messages import Request
from securefed.wire.transport import Transport


@dataclass(frozen=True)
class Answers:
    """What came of one stage.

    Attributes:
        bodies: of good replies.
        dropped: name -> reason, for the rest.
        accusations: name -> place that it accuses, of those that refused for another's fault.
    """

    bodies: dict[str, bytes]
    dropped: dict[str, str]
    accusations: dict[str, int]


def ask(
    transport: Transport, requests: Mapping[str, Request], deadline_s: float, limits: Limits
) -> Answers:
    """Send one stage and sort the replies."""
    encoded = {name: messages.encode(request) for name, request in requests.items()}
    replies = transport.stage(encoded, deadline_s)
    answers = Answers({}, {}, {})
    for name, request in requests.items():
        if name not in replies:
            answers.dropped[name] = f"no reply to {request.stage} within {deadline_s:g} s"
            continue
        try:
            reply = messages.decode_reply(replies[name], limits.reply(request.stage))
        except RunError as error:
            answers.dropped[name] = str(error)
            continue
        if (reply.round, reply.stage) != (request.round, request.stage):
            answers.dropped[name] = f"replied for round {reply.round} {reply.stage}"
        elif reply.refusal and reply.accused is not None:
            answers.accusations[name] = reply.accused
        elif reply.refusal:
            answers.dropped[name] = f"refused {request.stage}: {reply.refusal}"
        else:
            answers.bodies[name] = reply.body
    return answers
