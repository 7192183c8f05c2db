"""Watches a network from within: who is dialled, who listens, and whether words are on the wire.

Run as a program in a network namespace of its own, by `tests.engine.networks`. Needs nothing but
Python. Writes a line of JSON when it begins, and another when it is asked to end.
"""

import json
import re
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ALL = 0x0003  # every protocol (linux/if_ether.h)
IPV4, IPV6, TCP, UDP = 0x0800, 0x86DD, 6, 17
SYN, ACK = 0x02, 0x10
LISTENS = "0A"  # in /proc/net/tcp
BUFFER = 2**27
LOOK_S = 0.5

Flow = tuple[str, int, str, int]


def segments(frame: bytes) -> Iterator[tuple[int, Flow, int, bytes]]:
    """(protocol, from and to whom, TCP flags, content) of a frame, if it is TCP or UDP."""
    kind = struct.unpack_from(">H", frame, 12)[0]
    if kind == IPV4:
        head, protocol, family = 14 + 4 * (frame[14] & 15), frame[23], socket.AF_INET
        source, target = frame[26:30], frame[30:34]
        end = 14 + struct.unpack_from(">H", frame, 16)[0]
    elif kind == IPV6:
        head, protocol, family = 54, frame[20], socket.AF_INET6
        source, target = frame[22:38], frame[38:54]
        end = head + struct.unpack_from(">H", frame, 18)[0]
    else:
        return
    if protocol not in (TCP, UDP):
        return
    ports = struct.unpack_from(">HH", frame, head)
    flow = (socket.inet_ntop(family, source), ports[0], socket.inet_ntop(family, target), ports[1])
    if protocol == TCP:
        yield TCP, flow, frame[head + 13], frame[head + 4 * (frame[head + 12] >> 4) : end]
    else:
        yield UDP, flow, 0, frame[head + 8 : end]


def listening() -> set[tuple[str, int]]:
    """(address, port) of all that listens here now."""
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            if state == LISTENS:
                words, _, port = local.partition(":")
                packed = b"".join(
                    struct.pack("<I", int(word, 16)) for word in re.findall("." * 8, words)
                )
                found.add((socket.inet_ntop(family, packed), int(port, 16)))
    return found


def watch(markers: list[bytes]) -> dict[str, object]:
    """Watch until SIGTERM."""
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: over.append(number))
    longest = max(map(len, markers), default=1)
    tails: dict[Flow, bytes] = {}
    dialled, listened, words = set(), set(), set()
    seen = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        print(json.dumps("watching"), flush=True)
        look = time.monotonic()
        while True:
            if time.monotonic() >= look:
                listened |= listening()
                look = time.monotonic() + LOOK_S
            if not select.select([wire], [], [], 0.2)[0]:
                if over:  # and all that came before is read
                    break
                continue
            for protocol, flow, flags, content in segments(wire.recv(2**17)):
                if protocol == UDP or flags & (SYN | ACK) == SYN:
                    dialled.add((protocol, *flow[2:]))
                seen += len(content)
                text = tails.get(flow, b"") + content
                words |= {
                    (marker.decode(), flow[3], flow[1]) for marker in markers if marker in text
                }
                tails[flow] = text[-longest:]
    return {
        "dialled": sorted(dialled),
        "listened": sorted(listened),
        "found": sorted(words),
        "bytes": seen,
    }


if __name__ == "__main__":
    print(json.dumps(watch([word.encode() for word in sys.argv[1:]])), flush=True)
