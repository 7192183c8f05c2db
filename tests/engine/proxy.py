"""A TCP proxy that a test puts on the way: it delays, it cuts, and it looks at what passes.

Run as a program: LISTEN_PORT TARGET_PORT DELAY_S. Every piece of bytes is passed on so much later,
each way. SIGUSR1 cuts all connections that are there. Writes a line of JSON when it listens, and
another when it is asked to end.
"""

import asyncio
import contextlib
import json
import signal
import sys

RECORDS = range(20, 24)  # change of cipher, alert, handshake, data (RFC 8446, 5.1)
LONGEST = 2**14 + 256  # bytes of a record


class Wire:
    """One direction of a connection: whether all of it is records of TLS."""

    def __init__(self) -> None:
        self.clear = b""  # the first bytes that are no such record
        self.passed = 0
        self._rest = b""

    def see(self, content: bytes) -> None:
        self.passed += len(content)
        self._rest += content
        while len(self._rest) >= 5 and not self.clear:
            length = int.from_bytes(self._rest[3:5], "big")
            if self._rest[0] not in RECORDS or self._rest[1] != 3 or length > LONGEST:
                self.clear = self._rest[:64]
            elif len(self._rest) < 5 + length:
                break
            else:
                self._rest = self._rest[5 + length :]


class Proxy:
    """Connections from a port to another one of this machine."""

    def __init__(self, target: int, delay_s: float) -> None:
        self._target, self._delay_s = target, delay_s
        self._there: set[asyncio.StreamWriter] = set()
        self.wires: list[Wire] = []
        self.cuts = 0

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._there |= {writer, far_writer}
        try:
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        finally:
            self._there -= {writer, far_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire()
        self.wires.append(wire)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while content := await reader.read(2**16):
                wire.see(content)
                # Later, and in order: a delay of the way, not a limit on how much is on it.
                loop.call_later(self._delay_s, self._write, writer, content)
        loop.call_later(self._delay_s, writer.close)

    @staticmethod
    def _write(writer: asyncio.StreamWriter, content: bytes) -> None:
        if not writer.is_closing():
            writer.write(content)

    def cut(self) -> None:
        """Lose all connections, with what is on the way."""
        self.cuts += len(self._there) // 2
        for writer in self._there:
            writer.transport.abort()


async def main(listen: int, target: int, delay_s: float) -> None:
    """Pass bytes on until SIGTERM."""
    proxy, over = Proxy(target, delay_s), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_signal_handler(signal.SIGUSR1, proxy.cut)
    async with await asyncio.start_server(proxy.connect, "127.0.0.1", listen):
        print(json.dumps("listening"), flush=True)
        await over.wait()
    wires = proxy.wires
    told = {
        "connections": len(wires) // 2,
        "cuts": proxy.cuts,
        "bytes": sum(wire.passed for wire in wires),
        "clear": [wire.clear.hex() for wire in wires if wire.clear],
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
