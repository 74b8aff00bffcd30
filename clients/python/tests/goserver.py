"""A strict server that speaks as a Go node: no abilities, named sources, late announcements.

Its codec shares no code with the package. It records everything that a Go node would not expect in `violations`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import struct
import uuid
from typing import Any, Dict, List, Optional, Set, Tuple

import lz4.block  # type: ignore[import-untyped]

Key = Tuple[int, int, int]
MARK = b"lz4!"


def content(seed: int, size: int, kind: str) -> bytes:
    """The payload of a frame."""
    if kind == "text":
        return (b"line %d of the text\n" % seed * (size // 10 + 1))[:size]
    data = random.Random(seed).randbytes(size)
    return (MARK + data)[:size] if kind == "magic" else data


def encoded(data: bytes, kind: str) -> bytes:
    """The frame as a server sends it: compressed if it must or should be."""
    if len(data) > 12 and (kind == "text" or data.startswith(MARK)):
        block: bytes = lz4.block.compress(data, store_size=False)
        data = MARK + struct.pack("<Q", len(data)) + block
    return struct.pack("<Q", len(data)) + data


class Stream:
    def __init__(self, link: Link, key: Key, port: int) -> None:
        self.link, self.key, self.port = link, key, port
        self.acked = asyncio.Event()
        self.credit = asyncio.Event()
        self.in_flight = 0
        self.unacked = 0
        self.input = bytearray()
        self.arrived = asyncio.Event()
        self.fin1 = self.fin2 = self.ended = False

    def send(self, command: int, payload: bytes = b"") -> None:
        self.link.send(command, self.key[0], self.key[1], self.port, payload)

    def receive(self, command: int, payload: bytes) -> None:
        server = self.link.server
        if command == 4:
            server.check(not self.acked.is_set(), "second ACK")
            self.send(6)
            self.acked.set()
        elif command == 128:
            server.check(self.acked.is_set(), "DATA before ACK")
            server.check(not self.fin2, "DATA behind FIN2")
            server.check(0 < len(payload) <= 65_536, f"DATA of {len(payload)} bytes")
            self.unacked += len(payload)
            server.check(self.unacked <= 65_536, "DATA beyond the window")
            self.input += payload
            self.arrived.set()
        elif command == 130:
            count = struct.unpack(">I", payload)[0]
            server.check(0 < count <= self.in_flight, f"REWIND of {count}, {self.in_flight} are in flight")
            self.in_flight -= count
            self.credit.set()
        elif command == 8:
            self.fin1 = True
            self.credit.set()
        elif command in (16, 32, 62):
            self.fin2 = True
            self.fin1 |= command != 16
            self.credit.set()
            self.arrived.set()
            self.acked.set()
        else:
            server.check(False, f"command {command} on a stream")

    async def read(self, count: int) -> bytes:
        while len(self.input) < count:
            if self.fin2:
                raise EOFError
            if self.unacked:
                self.send(130, struct.pack(">I", self.unacked))
                self.unacked = 0
            self.arrived.clear()
            await self.arrived.wait()
        data = bytes(self.input[:count])
        del self.input[:count]
        return data

    async def write(self, data: bytes, chunks: random.Random) -> None:
        view = memoryview(data)
        while view:
            if self.fin1:
                raise EOFError
            room = 65_536 - self.in_flight
            if not room:
                self.credit.clear()
                await self.credit.wait()
                continue
            count = min(len(view), room, chunks.choice((1, 7, 8, 100, 4_096, 65_536, 65_536, 65_536)))
            self.send(128, bytes(view[:count]))
            self.in_flight += count
            view = view[count:]
            if chunks.random() < 0.2:
                await asyncio.sleep(0)

    def end(self, text: Optional[bytes] = None) -> None:
        if not self.ended:
            self.ended = True
            if text is not None:
                self.send(32, text)
                self.send(8)
            self.send(16)


class Link:
    def __init__(
        self, server: GoServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direct: bool
    ) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        # Whether the peer is the client, and not a router.
        self.direct = direct
        self.streams: Dict[Key, Stream] = {}
        self.closed: Set[Key] = set()
        self.names: Dict[int, asyncio.Future[Stream]] = {}

    def send(self, command: int, host: int, to_port: int, from_port: int, payload: bytes = b"") -> None:
        header = struct.pack(">BQQIII", command, host, self.server.id, to_port, from_port, len(payload))
        self.writer.write(header + payload)

    async def run(self) -> None:
        self.send(191, 0, 0, 0, b'{"RAddr":"127.0.0.1:1"}')
        self.send(194, 0, 0, 0, b"127.0.0.1:5999")
        self.send(192, 0, 0, 1, b"ipc.test")
        for port, name in self.server.services.items():
            self.send(192, 0, 0, port, name.encode())
        first = True
        try:
            while True:
                command, to_host, host, to_port, from_port, count = struct.unpack(
                    ">BQQIII", await self.reader.readexactly(29)
                )
                self.server.check(count <= 65_536, f"an op of {count} bytes")
                payload = await self.reader.readexactly(count)
                if first:
                    self.server.check(command == 191 and "RAddr" in json.loads(payload), "no HANDSHAKE first")
                    self.server.check(host != 0, "no host id")
                    first = False
                else:
                    self.receive(command, to_host, host, to_port, from_port, payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for stream in self.streams.values():
                stream.receive(62, b"")
            self.writer.close()

    def receive(self, command: int, to_host: int, host: int, to_port: int, from_port: int, payload: bytes) -> None:
        check = self.server.check
        if command == 160:
            self.send(161, host, from_port, to_port)
        elif command == 190:
            check(to_host == self.server.id, "DIAL to another host")
            check(from_port > 1 << 24, f"DIAL from port {from_port}")
            check(not (self.direct and payload), "a dial block to a Go node")
            key = (host, from_port, to_port)
            check(key not in self.streams and key not in self.closed, "a port is used twice")
            name = self.names.pop(to_port, None)
            if to_port not in self.server.services and name is None:
                self.closed.add(key)
                return  # As Go: no answer.
            stream = self.streams[key] = Stream(self, key, to_port)
            stream.send(2)
            if name is not None:
                name.set_result(stream)
            else:
                self.server.start(self.serve(stream))
        elif command in (4, 8, 16, 32, 62, 128, 130):
            stream_or_none = self.streams.get((host, from_port, to_port))
            if stream_or_none is not None:
                stream_or_none.receive(command, payload)
                if stream_or_none.fin1 and stream_or_none.fin2 and stream_or_none.ended:
                    del self.streams[host, from_port, to_port]
                    self.closed.add((host, from_port, to_port))
            else:
                check((host, from_port, to_port) in self.closed, f"command {command} of an unknown stream")
        elif command == 196:
            for stream in [one for key, one in self.streams.items() if key[0] == host]:
                stream.receive(62, b"")
        elif self.direct:
            check(command == 161, f"command {command} from a client")

    async def serve(self, master: Stream) -> None:
        try:
            await self.answer(master)
        except EOFError:
            pass
        finally:
            self.server.open -= 1

    async def answer(self, master: Stream) -> None:
        self.server.open += 1
        await master.acked.wait()
        size = struct.unpack("<Q", await master.read(8))[0]
        request: Any = json.loads((await master.read(size)).split(b"\0", 1)[0])
        chunks = random.Random(request.get("seed", 0))
        sources: List[asyncio.Task[None]] = []
        for index, source in enumerate(request["sources"]):
            self.server.port += 1
            port, name = self.server.port, str(uuid.UUID(bytes=chunks.randbytes(16), version=4)).encode()
            dialled: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
            self.names[port] = dialled
            to = master.key[0] if not self.direct else 0
            if chunks.random() < 0.5:  # Go announces a name up to 50 ms late.
                asyncio.get_running_loop().call_later(chunks.random() * 0.05, self.send, 192, to, 0, port, name)
            else:
                self.send(192, to, 0, port, name)
            header = source["header"].encode()
            frames = b"".join(struct.pack("<Q", len(part)) + part for part in (header, name))
            sources.append(self.server.start(self.source(dialled, source, index, chunks, name, to)))
            await master.write(frames, chunks)
        end = request.get("end", "ok")
        if end == "error":
            await master.write(b"\xff" * 4, chunks)
            master.end(b"the request failed")
        elif end == "cut":
            await master.write(struct.pack("<Q", 3) + b"abc", chunks)
            master.end()
        elif end == "name":
            await master.write(struct.pack("<Q", 0) * 2, chunks)
            master.end()
        else:
            master.end()
        await asyncio.gather(*sources)

    async def source(
        self, dialled: asyncio.Future[Stream], source: Any, index: int, chunks: random.Random, name: bytes, to: int
    ) -> None:
        self.server.open += 1
        try:
            stream = await asyncio.wait_for(dialled, 10)
            await stream.acked.wait()
            kind = source["kind"]
            for number, size in enumerate(source["frames"]):
                await stream.write(encoded(content(1_000 * index + number, size, kind), kind), chunks)
            end = source.get("end", "ok")
            last = {
                "huge": struct.pack("<Q", 104_857_601),
                "cut": struct.pack("<Q", 5) + b"hell",
                "claim": struct.pack("<Q", 14) + MARK + struct.pack("<Q", 1_000) + b"\x10a",
                "corrupt": struct.pack("<Q", 14) + MARK + struct.pack("<Q", 5) + b"\x10a",
                "error": b"\xff" * 4,
                "force": b"",
            }.get(end, b"")
            await stream.write(last, chunks)
            if end == "force":
                stream.ended = True
                stream.send(62)
            else:
                stream.end(b"the source failed" if end == "error" else None)
            self.send(193, to, 0, stream.port, name)
        except (EOFError, asyncio.TimeoutError):
            pass
        finally:
            self.server.open -= 1


class GoServer:
    """The server. Use `listen` or `join`, then `close`."""

    def __init__(self, *services: str) -> None:
        self.id = int.from_bytes(os.urandom(8), "big") >> 1
        self.services = {16_777_218 + number: name for number, name in enumerate(services)}
        self.port = 16_777_300
        self.open = 0
        self.violations: List[str] = []
        self.tasks: Set[asyncio.Task[None]] = set()
        self.listener: Optional[asyncio.base_events.Server] = None

    def check(self, holds: bool, text: str) -> None:
        if not holds:
            self.violations.append(text)

    def start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def listen(self) -> str:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.start(Link(self, reader, writer, direct=True).run())

        self.listener = await asyncio.start_server(accept, "127.0.0.1", 0)
        port: int = self.listener.sockets[0].getsockname()[1]
        return f"127.0.0.1:{port}"

    async def join(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self.start(Link(self, reader, writer, direct=False).run())

    async def close(self) -> None:
        if self.listener is not None:
            self.listener.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
