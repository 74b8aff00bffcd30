"""200 cases of sizes, magic frames and errors: against a strict Go-like server and the real host, direct and through a
real router, with pushed and with named sources."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, Dict, List, Optional, Tuple

import pytest

import chanserv
from chanserv import _lz4
from conftest import Mesh
from goserver import GoServer, content
from support import await_idle, run

SIZES = [0, 1, 2, 7, 8, 9, 11, 12, 13, 14, 20, 63, 255, 4_095, 16_375, 16_376, 16_377, 16_384, 65_519, 65_520]
SIZES += [65_527, 65_528, 65_529, 65_535, 65_536, 65_537, 100_000, 131_072, 262_144, 262_145, 1_000_003]
SOURCE_ENDS: Dict[str, Optional[Tuple[type, str]]] = {
    "ok": None,
    "error": (chanserv.SourceFailed, "the source failed"),
    "cut": (chanserv.FrameError, "truncated frame"),
    "huge": (chanserv.FrameError, "wrong frame size"),
    "claim": (chanserv.FrameError, "wrong uncompressed frame size"),
    "corrupt": (chanserv.FrameError, "corrupt compression"),
    "force": (chanserv.SourceFailed, "without a message"),
}
ENDS: Dict[str, Optional[Tuple[type, str]]] = {
    "ok": None,
    "error": (chanserv.RequestFailed, "the request failed"),
    "cut": (chanserv.FrameError, "truncated frame"),
    "name": (chanserv.ProtocolError, "wrong announcement"),
}


def make_cases() -> List[Any]:
    """200 answers. Each size and each kind of end occurs several times."""
    chance = random.Random(15)
    cases = []
    for number in range(200):
        sources = []
        for index in range(chance.choice((0, 1, 1, 2, 3)) if number >= 2 * len(SIZES) else 1):
            sizes = [chance.choice(SIZES) for _ in range(chance.randrange(5))]
            if number < 2 * len(SIZES):
                sizes = [SIZES[number // 2]]
            end = chance.choice(list(SOURCE_ENDS)) if chance.random() < 0.4 else "ok"
            kind = ("random", "magic")[number % 2] if chance.random() < 0.7 else "text"
            header = chance.choice(("", "header %d" % index, "h" * 20_000))
            sources.append({"header": header, "frames": sizes, "kind": kind, "end": end})
        end = chance.choice(list(ENDS)) if chance.random() < 0.3 else "ok"
        cases.append({"seed": number, "sources": sources, "end": end, "body": chance.choice(SIZES)})
    return cases


CASES = make_cases()


async def check_go(client: chanserv.Client, case: Any) -> None:
    """Reads the answer of the Go-like server, in a random order of its sources."""
    chance = random.Random(case["seed"])
    # The server ignores what is behind the zero: it makes bodies of all sizes.
    body = json.dumps(case).encode() + b"\0" + bytes(case["body"])
    async with client.post("cases", body, timeout=30) as sources:
        found: List[chanserv.Source] = []
        failure: Optional[chanserv.ChanservError] = None
        try:
            async for source in sources:
                found.append(source)
        except chanserv.ChanservError as error:
            failure = error
        check_error(failure, ENDS[case["end"]])
        assert [source.header.decode() for source in found] == [one["header"] for one in case["sources"]]
        for source in chance.sample(found, len(found)):
            expected = case["sources"][source.index]
            frames = [
                content(1_000 * source.index + number, size, expected["kind"])
                for number, size in enumerate(expected["frames"])
            ]
            received: List[bytes] = []
            failure = None
            try:
                async for frame in source:
                    received.append(frame)
            except chanserv.ChanservError as error:
                failure = error
            assert list(map(len, received)) == list(map(len, frames)) and received == frames
            check_error(failure, SOURCE_ENDS[expected["end"]])


def check_error(error: Optional[chanserv.ChanservError], expected: Optional[Tuple[type, str]]) -> None:
    if expected is None:
        assert error is None, error
    else:
        assert isinstance(error, expected[0]) and expected[1] in str(error), error


@pytest.mark.parametrize("native", [True, False])
def test_cases_against_a_go_like_server(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(_lz4, "_native", None)

    async def work() -> None:
        server = GoServer("cases")
        async with chanserv.connect(await server.listen()) as client:
            for case in CASES:
                await check_go(client, case)
            for _ in range(100):
                if not server.open:
                    break
                await asyncio.sleep(0.05)
            assert server.open == 0
        await server.close()
        assert server.violations == []

    run(work(), 120)


def test_cases_against_a_go_like_server_through_a_router(mesh: Mesh) -> None:
    async def work() -> None:
        server = GoServer("cases")
        await server.join(mesh.router.address)
        async with chanserv.connect(mesh.router.address) as client:
            for case in CASES:
                await check_go(client, case)
        await server.close()
        assert server.violations == []

    run(work(), 120)


def block() -> bytes:
    """The pseudo-random block of the plugin Load (splitmix64)."""
    state, out = 0x6368616E73657276, bytearray()
    mask = (1 << 64) - 1
    for _ in range(1 << 17):
        state = (state + 0x9E3779B97F4A7C15) & mask
        value = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ value >> 27) * 0x94D049BB133111EB) & mask
        out += (value ^ value >> 31).to_bytes(8, "little")
    return bytes(out)


def loaded(random_block: bytes, source: int, number: int, size: int, kind: str) -> bytes:
    """A frame of the plugin Load."""
    if kind == "zero":
        return bytes(size)
    mixed = (source * 0x9E3779B97F4A7C15 + number * 0xC2B2AE3D27D4EB4F) & ((1 << 64) - 1)
    head = (b"lz4!" if kind == "magic" else b"") + source.to_bytes(8, "little") + number.to_bytes(8, "little")
    head = head[:size]
    at = ((mixed >> 50) * 64 + len(head)) % len(random_block)
    rest = size - len(head)
    return head + (random_block[at:] + random_block * (rest // len(random_block) + 1))[:rest]


@pytest.fixture(scope="module")
def random_block() -> bytes:
    return block()


@pytest.mark.parametrize("pushed", [True, False], ids=["pushed", "named"])
@pytest.mark.parametrize("way", ["direct", "router"])
def test_cases_against_the_host(mesh: Mesh, random_block: bytes, way: str, pushed: bool) -> None:
    chance = random.Random(15)

    async def load(client: chanserv.Client, service: str, size: int, kind: str) -> None:
        count, each = chance.choice(((1, 3), (3, 2), (2, 0), (7, 1)))
        async with client.post(service, f"{count} {each} {size} {kind}".encode(), timeout=30) as sources:
            found = [source async for source in sources]
            assert [source.header for source in found] == [b"%d" % index for index in range(count)]
            for source in chance.sample(found, count):
                frames = [frame async for frame in source]
                assert frames == [loaded(random_block, source.index, number, size, kind) for number in range(each)]

    async def limited(client: chanserv.Client) -> None:
        """The host fails each source after some frames."""
        async with client.post("limited", b"1 10ms 0", timeout=30) as sources:
            async for source in sources:
                assert await source.__anext__() == b"tick 1"
                with pytest.raises(chanserv.DeadlineExceeded, match="^deadline exceeded: .*serving"):
                    await source.read()

    async def work() -> None:
        cases = 0
        async with chanserv.connect(mesh.address(way), pushed_sources=pushed) as client:
            for number in range(160):
                size = SIZES[number % len(SIZES)]
                packed = chance.random() < 0.5
                if number % 2:
                    body = content(number, size, chance.choice(("random", "magic", "text")))
                    assert await client.fetch("packed" if packed else "echo", body, timeout=30) == body
                else:
                    service = "loadpacked" if packed else "load"
                    await load(client, service, size, chance.choice(("zero", "random", "magic")))
                cases += 1
            for number in range(20):
                with pytest.raises(chanserv.RequestFailed, match="bad request"):
                    await client.fetch("load", b"bad %d" % number)
                cases += 1
            await asyncio.gather(*(limited(client) for _ in range(20)))
            cases += 20
        assert cases == 200

    run(work(), 120)
    await_idle(mesh.folder)
