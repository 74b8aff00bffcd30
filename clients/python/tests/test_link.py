"""The state of a link, without a connection: the conversations of docs/protocol.md, broken peers and random bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import List, Optional, Type, Union

import pytest

from chanserv import ConnectionLost, NotAllowed, ProtocolError, RequestFailed, ServiceBusy, SourceFailed
from chanserv import _ops as ops
from chanserv import Limits
from chanserv._identity import Identity
from chanserv._link import Link
from chanserv._ops import Block, Grant, Op, SourceEntry
from chanserv._request import End, Request, SourceState, Wait
from test_vectors import HOSTS, OPS, vectors

CLIENT, SERVER, ROUTER = HOSTS["C"], HOSTS["S"], 7
NONCES = [0x8F1D3B5A6C7E9021, 0x8F1D3B5A6C7E90DE]
ALL = {"eager", "push", "refuse", "window"}
SERVICE = 16_777_218


class Peer:
    """Talks to the state of a link as the node at its other end."""

    def __init__(self, peer: int = SERVER, abilities: Optional[List[str]] = None, limits: Limits = Limits()) -> None:
        nonces = iter(NONCES)
        self.identity = Identity(CLIENT, lambda: next(nonces), ALL)
        self.link = Link(self.identity, "127.0.0.1:5555", 0.0, limits)
        value = {"Abilities": sorted(ALL) if abilities is None else abilities, "RAddr": ""}
        self.send(Op(ops.HANDSHAKE, 0, peer, 0, 0, json.dumps(value).encode()))
        self.sent()

    def send(self, *sent: Op) -> None:
        self.link.receive(b"".join(map(ops.encode_op, sent)), 0.0)

    def stream(self, command: int, payload: bytes = b"", from_port: int = SERVICE, port: int = 16_777_217) -> None:
        self.send(Op(command, CLIENT, SERVER, port, from_port, payload))

    def sent(self) -> List[Op]:
        """The ops that the client has sent since the last call."""
        return [op for data in self.link.take_output(0.0) for op in ops.OpDecoder().feed(data)]

    def post(self, body: bytes = b"hello", deadline: Optional[int] = 30_000) -> Request:
        return self.link.post((SERVER, SERVICE), body, Block(deadline=deadline))

    def push(self, index: int, nonce: int = NONCES[0], payload: bytes = b"") -> None:
        entry = ops.encode_block(Block(source=SourceEntry(nonce, SERVICE, index)))
        port = SERVICE + 1 + index
        self.stream(ops.DIAL, entry, from_port=port)
        if payload:
            self.stream(ops.DATA, payload, from_port=port)


def frame(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


def source_of(request: Request) -> SourceState:
    source = request.take_source()
    assert isinstance(source, SourceState)
    return source


@pytest.mark.parametrize("name", ["push-direct", "push-router-first", "push-router-next"])
def test_conversations_of_the_document(name: str) -> None:
    peer = Peer(SERVER if name == "push-direct" else ROUTER)
    if name == "push-router-next":
        peer.identity.keep_cookie(SERVER, 0x51C0A7E2D94B3F68)
    request = peer.post()
    mine = [vector.data for vector in vectors(dict(OPS)[name]) if vector.sender == "C"]
    expected = [op for data in mine for op in ops.OpDecoder().feed(data)]
    for vector in vectors(dict(OPS)[name]):
        if vector.sender == "S":
            peer.link.receive(vector.data, 0.0)
    source = source_of(request)
    assert source.header == b"echo"
    assert source.take_frame() == b"hello"
    assert isinstance(source.take_frame(), End) and isinstance(request.take_source(), End)
    assert peer.sent() == expected
    assert not peer.link.streams and not peer.link.requests and not peer.link.granted and not peer.link.buffered


def test_a_wrong_cookie_is_a_refusal_of_the_request() -> None:
    peer = Peer(ROUTER)
    peer.identity.keep_cookie(SERVER, 0x1111111111111111)
    expected = [op for vector in vectors(dict(OPS)["push-wrong-cookie"]) for op in ops.OpDecoder().feed(vector.data)]
    request = peer.post(deadline=None)
    assert peer.sent() == expected[:2]
    peer.send(expected[2])
    assert request.master is not None and request.master.refusal == "wrong cookie"
    peer.identity.drop_cookie(SERVER)
    request.close()
    assert peer.sent() == []
    peer.post(deadline=None)
    assert peer.sent() == expected[3:4]


def test_a_source_that_no_request_expects_is_refused() -> None:
    peer = Peer()
    data = [op for vector in vectors(dict(OPS)["push-refused"]) for op in ops.OpDecoder().feed(vector.data)]
    peer.send(*data[:2])
    assert peer.sent() == data[2:]


@pytest.mark.parametrize("index, nonce", [(1, NONCES[0]), (0, 1)])
def test_a_source_with_another_index_or_nonce_is_refused(index: int, nonce: int) -> None:
    peer = Peer()
    request = peer.post()
    peer.stream(ops.SYN)
    peer.sent()
    peer.push(index, nonce)
    assert [op.command for op in peer.sent()] == [ops.ERR]
    assert isinstance(request.take_source(), Wait)


def test_more_sources_than_granted_fail_the_request_only() -> None:
    peer = Peer(limits=Limits(sources=2))
    request = peer.post()
    peer.stream(ops.SYN)
    for index in range(3):
        peer.push(index, payload=frame(b"h"))
    assert [op.command for op in peer.sent() if op.to_port == SERVICE][-3:] == [ops.ERR, ops.FIN1, ops.FIN2]
    source_of(request), source_of(request)
    with pytest.raises(ProtocolError, match="more sources than the client granted"):
        request.take_source()
    assert peer.link.lost is None


def test_more_bytes_than_granted_fail_the_request() -> None:
    peer = Peer()
    request = peer.post()
    peer.stream(ops.SYN)
    peer.push(0, payload=frame(b"h") + bytes(16_384))
    with pytest.raises(ProtocolError, match="window"):
        source_of(request), request.take_source()
    assert peer.link.buffered == 0


def test_an_accepted_source_gets_the_window_of_a_stream_and_returns_credit() -> None:
    peer = Peer()
    request = peer.post()
    peer.stream(ops.SYN)
    peer.push(0, payload=frame(b"h") + frame(bytes(16_000)))
    source = source_of(request)
    peer.stream(ops.DATA, frame(bytes(40_000)), from_port=SERVICE + 1)
    peer.sent()
    assert source.take_frame() == bytes(16_000) and source.take_frame() == bytes(40_000)
    assert isinstance(source.take_frame(), Wait)
    rewinds = [ops.U32.unpack(op.payload)[0] for op in peer.sent() if op.command == ops.REWIND]
    assert sum(rewinds) == 9 + 16_008 + 40_008


def test_a_failed_source_is_taken_and_confirmed_with_syn() -> None:
    peer = Peer()
    request = peer.post()
    peer.stream(ops.SYN)
    peer.push(0, payload=frame(b"h") + frame(b"one") + b"\xff" * 4)
    for command in (ops.ERR, ops.FIN1, ops.FIN2):
        peer.stream(command, b"no such quote" if command == ops.ERR else b"", from_port=SERVICE + 1)
    peer.sent()
    source = source_of(request)
    assert [op.command for op in peer.sent()] == [ops.SYN]
    assert source.take_frame() == b"one"
    with pytest.raises(SourceFailed, match="no such quote"):
        source.take_frame()
    assert peer.sent() == []


def test_closing_gives_up_offered_and_accepted_sources_and_cancels() -> None:
    peer = Peer()
    request = peer.post()
    peer.stream(ops.SYN)
    peer.push(0, payload=frame(b"a"))
    peer.push(1, payload=frame(b"b"))
    source_of(request)
    peer.sent()
    request.close()
    assert [(op.command, op.to_port) for op in peer.sent()] == [
        (command, port) for port in (SERVICE + 1, SERVICE + 2, SERVICE) for command in (ops.FIN1, ops.FIN2)
    ]
    assert not peer.link.streams and not peer.link.granted and not peer.link.buffered and not request.sources


def test_missing_sources_behind_a_router_are_awaited() -> None:
    peer = Peer(ROUTER)
    peer.identity.keep_cookie(SERVER, 1)
    request = peer.post()
    peer.stream(ops.SYN)
    peer.stream(ops.FIN1)
    peer.stream(ops.FIN2, ops.U32.pack(1))
    assert isinstance(request.take_source(), Wait) and request.is_missing
    peer.push(0, payload=frame(b"h"))
    assert source_of(request).header == b"h" and not request.is_missing
    assert isinstance(request.take_source(), End)


def test_the_end_of_the_list_may_overtake_the_header_of_a_source() -> None:
    peer = Peer()
    request = peer.post()
    peer.stream(ops.SYN)
    peer.push(0)
    peer.stream(ops.FIN1)
    peer.stream(ops.FIN2)
    assert isinstance(request.take_source(), Wait)
    peer.stream(ops.DATA, frame(b"late"), from_port=SERVICE + 1)
    assert source_of(request).header == b"late"
    assert isinstance(request.take_source(), End)


def test_pushed_and_named_sources_in_one_answer_fail_the_request() -> None:
    peer = Peer()
    request = peer.post()
    peer.stream(ops.SYN)
    peer.push(0, payload=frame(b"h"))
    peer.stream(ops.DATA, frame(b"header") + frame(b"name"))
    source_of(request)
    with pytest.raises(ProtocolError, match="mixes"):
        request.take_source()


@pytest.mark.parametrize("name", [b"", b"n" * 1_025, b"\xff"])
def test_a_source_without_a_valid_name_fails_the_request(name: bytes) -> None:
    peer = Peer(abilities=[])
    request = peer.post()
    peer.stream(ops.SYN)
    peer.stream(ops.DATA, frame(b"") + frame(name))
    with pytest.raises(ProtocolError, match="^wrong announcement"):
        request.take_source()


def test_announcements_before_an_error_stay_valid_beyond_the_limit() -> None:
    peer = Peer(abilities=[], limits=Limits(sources=2))
    request = peer.post()
    peer.stream(ops.SYN)
    peer.stream(ops.DATA, b"".join(frame(b"%d" % index) + frame(b"name%d" % index) for index in range(5)) + b"\xff" * 4)
    for command in (ops.ERR, ops.FIN1, ops.FIN2):
        peer.stream(command, b"broken" if command == ops.ERR else b"")
    assert len(peer.link.awaited) == 2
    assert [source_of(request).header for _ in range(5)] == [b"%d" % index for index in range(5)]
    with pytest.raises(RequestFailed, match="broken"):
        request.take_source()


def test_a_body_waits_for_credit() -> None:
    peer = Peer(abilities=[])
    peer.post(bytes(200_000))
    assert [op.command for op in peer.sent()] == [ops.DIAL]
    peer.stream(ops.SYN)
    sizes = [len(op.payload) for op in peer.sent() if op.command == ops.DATA]
    assert sizes == [65_536]
    total = sum(sizes)
    while total < 200_008:
        peer.stream(ops.REWIND, ops.U32.pack(30_000))
        sizes = [len(op.payload) for op in peer.sent()]
        assert sizes and sum(sizes) <= 30_000
        total += sum(sizes)
    assert total == 200_008


def test_too_much_credit_breaks_the_stream() -> None:
    peer = Peer()
    request = peer.post()
    peer.stream(ops.REWIND, ops.U32.pack(14))
    peer.stream(ops.SYN)
    with pytest.raises(ProtocolError, match="credit"):
        request.take_source()


def test_a_host_that_gives_the_stream_up_has_not_answered() -> None:
    peer = Peer()
    request = peer.post()
    peer.stream(ops.FIN2)
    assert request.master is not None and request.master.refusal
    with pytest.raises(RequestFailed):
        request.take_source()


@pytest.mark.parametrize(
    "text, kind",
    [
        ("busy: quota, retry after 1500 ms", ServiceBusy),
        ("not allowed: echo", NotAllowed),
        ("deadline exceeded", TimeoutError),
    ],
)
def test_codes_of_errors_have_classes(text: str, kind: Type[Exception]) -> None:
    peer = Peer()
    request = peer.post()
    peer.stream(ops.SYN)
    peer.stream(ops.ERR, text.encode())
    with pytest.raises(kind, match=text) as raised:
        request.take_source()
    if isinstance(raised.value, ServiceBusy):
        assert raised.value.retry_after == 1.5


def test_reset_of_a_host_ends_its_streams_with_ops() -> None:
    peer = Peer(ROUTER)
    request = peer.post()
    peer.stream(ops.SYN, ops.encode_block(Block(cookie=5)))
    peer.sent()
    peer.send(Op(ops.RST, CLIENT, SERVER, 0, 0, b""))
    assert [op.command for op in peer.sent()] == [ops.ERR, ops.FIN1, ops.FIN2]
    with pytest.raises(ConnectionLost, match="router"):
        request.take_source()
    assert not peer.link.streams


def test_keep_alive() -> None:
    peer = Peer()
    link = peer.link
    link.take_output(1.0)
    link.tick(4.0)
    assert not link.out
    link.tick(5.5)
    assert [op.command for op in peer.sent()] == [ops.PING]
    peer.send(Op(ops.PING, 0, SERVER, 0, 0, b""))
    assert peer.sent() == [Op(ops.PONG, SERVER, CLIENT, 0, 0, b"")]
    assert link.is_silent(11) and link.lost is None
    link.tick(101)
    assert "100 s" in str(link.lost)


def test_a_peer_without_a_handshake_is_lost_after_10_s() -> None:
    link = Link(Identity(CLIENT, lambda: 1, ALL), "node:1", 0.0, Limits())
    link.tick(9.9)
    assert link.lost is None
    link.tick(10.1)
    assert "no handshake" in str(link.lost)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "not a chanserv node"),
        (b"\x15\x03\x01\x00\x02", "not a chanserv node"),
        (ops.HEADER.pack(ops.DATA, 0, 1, 0, 0, ops.MAX_OP + 1), "limit"),
        (ops.encode_op(Op(ops.HANDSHAKE, 0, 0, 0, 0, b"{}")), "host id"),
        (ops.encode_op(Op(ops.HANDSHAKE, 0, CLIENT, 0, 0, b"{}")), "host id"),
        (ops.encode_op(Op(ops.HANDSHAKE, 0, 1, 0, 0, b"[]")), "object"),
        (ops.encode_op(Op(ops.HANDSHAKE, 0, 1, 0, 0, b"{")), "JSON"),
        (ops.encode_op(Op(ops.HANDSHAKE, 0, 1, 0, 0, b'{"a":NaN}')), "JSON"),
        (ops.encode_op(Op(ops.HANDSHAKE, 0, 1, 0, 0, b'{"RAddr":1}')), "RAddr"),
        (ops.encode_op(Op(ops.HANDSHAKE, 0, 1, 0, 0, b'{"MaxOp":true}')), "MaxOp"),
        (ops.encode_op(Op(ops.HANDSHAKE, 0, 1, 0, 0, b'{"Abilities":[1]}')), "Abilities"),
        (ops.encode_op(Op(ops.HANDSHAKE, 0, 1, 0, 0, b'{"a":' + b"[" * 40 + b"]" * 40 + b"}")), "32 levels"),
        (ops.encode_op(Op(ops.HANDSHAKE, 0, 1, 0, 0, b'{"a":' + b"[" * 60_000 + b"}")), "JSON"),
    ],
)
def test_what_breaks_a_link(data: bytes, message: str) -> None:
    link = Link(Identity(CLIENT, lambda: 1, ALL), "node:1", 0.0, Limits())
    with pytest.raises(ProtocolError, match=message):
        link.receive(data, 0.0)


def test_offers_are_limited_and_withdrawn() -> None:
    peer = Peer(limits=Limits(offers=3))
    for port in range(5):
        peer.send(Op(ops.SERVICE, 0, SERVER, 0, port, b"name"))
    assert len(peer.link.offers["name"]) == 3
    for port in range(5):
        peer.send(Op(ops.NO_SERVICE, 0, SERVER, 0, port, b"name"))
    peer.send(Op(ops.SERVICE, 0, SERVER, 0, 1, b""), Op(ops.SERVICE, 0, SERVER, 0, 1, b"n" * 1_025))
    assert not peer.link.offers and peer.link.offer_count == 0


def test_grants_shrink_with_the_buffer() -> None:
    peer = Peer(limits=Limits(buffer=4 * 16_384 * 80))
    first, second = peer.post(), peer.post()
    assert first.grant == Grant(NONCES[0], 64, 16_384) and second.grant == Grant(NONCES[1], 16, 16_384)
    assert peer.post().grant is None


def test_tags_that_do_not_fit_send_nothing() -> None:
    peer = Peer()
    with pytest.raises(ValueError, match="4096"):
        peer.link.post((SERVER, SERVICE), b"", Block(meta="m" * 4_096))
    assert not peer.sent() and not peer.link.requests and not peer.link.streams


@pytest.mark.parametrize("seed", range(200))
def test_random_ops_break_at_most_the_link(seed: int) -> None:
    chance = random.Random(seed)
    peer = Peer(chance.choice((SERVER, ROUTER)), limits=Limits(sources=4, streams=16))
    requests = [peer.post(bytes(chance.randrange(100_000))) for _ in range(2)]
    ports = [0, SERVICE, SERVICE + 1, SERVICE + 2, 16_777_217, 16_777_218]
    payloads = [b"", b"\0" * 4, frame(b"x"), frame(b"") + frame(b"n"), b"\xff" * 8, bytes(70_000), b"wrong cookie"]
    entries = [SourceEntry(nonce, SERVICE, index) for nonce in NONCES for index in (0, 1)]
    payloads += [ops.encode_block(Block(source=entry)) for entry in entries]
    payloads += [ops.encode_block(Block(cookie=1)), ops.U32.pack(3)]
    commands = sorted(ops.COMMANDS - {ops.HANDSHAKE})
    sources: List[SourceState] = []
    for _ in range(300):
        op = Op(
            chance.choice(commands),
            chance.choice((0, CLIENT)),
            chance.choice((SERVER, SERVER, ROUTER)),
            chance.choice(ports),
            chance.choice(ports),
            chance.choice(payloads),
        )
        peer.send(op)
        states: List[Union[Request, SourceState]] = [*requests, *sources]
        for state in chance.sample(states, 1):
            try:
                taken = state.take_source() if isinstance(state, Request) else state.take_frame()
                if isinstance(taken, SourceState):
                    sources.append(taken)
            except Exception as error:
                assert type(error).__module__ == "chanserv.errors", error
        peer.sent()
        link = peer.link
        assert link.buffered == sum(one.buffered for one in link.streams.values()) + sum(
            one.source.held for one in link.streams.values() if one.source is not None
        ) + sum(one.stream.buffered for one in sources if one.stream is not None and one.stream.closed) + sum(
            one.stream.buffered + one.held
            for request in requests
            for one in request.sources
            if one not in sources and one.stream is not None and one.stream.closed
        ) + sum(one.master.buffered for one in requests if one.master is not None and one.master.closed)
        if chance.random() < 0.003:
            chance.choice(requests).close()
    for request in requests:
        request.close()
    peer.link.tick(1)
    peer.link.tick(7)
    assert not peer.link.streams and not peer.link.requests and not peer.link.granted and not peer.link.awaited
    assert peer.link.buffered == 0 and peer.link.extra_window == 0


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_decoded_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    for file in (Path(__file__).parent / "wire").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()[:40]]
        data = bytearray(b"".join(bytes.fromhex(row["hex"]) for row in rows if row["from"] == "server"))
        for _ in range(20):
            data[chance.randrange(len(data))] = chance.randrange(256)
        link = Link(Identity(CLIENT, lambda: 1, ALL), "node:1", 0.0, Limits())
        try:
            link.receive(bytes(data), 0.0)
        except ProtocolError:
            pass
