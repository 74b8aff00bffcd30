"""One link: handshake, keep-alive, offers, streams and requests (docs/protocol.md §2, §3, §6).

Pure: the caller passes bytes and the time in, writes `out`, and wakes the readers of what `take_changes` returns."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple, Union

from . import _ops as ops
from ._frames import MAX_FRAME, frame_header
from ._identity import Identity, Limits
from ._ops import Block, Grant, Handshake, Op, SourceEntry
from ._request import Request, SourceState
from ._stream import WINDOW, Stream, StreamKey
from .errors import ChanservError, ConnectionLost, ProtocolError, RequestFailed, SourceFailed, error_of_text

PING_INTERVAL = 5.0
SILENT_AFTER = 10.0
HANDSHAKE_TIMEOUT = 10.0
DEAD_AFTER = 100.0
IDLE_TIMEOUT = 3.0
LINGER = 5.0
MAX_OUTPUT = 262_144
GRANT_WINDOW = 16_384

Address = Tuple[int, int]
Lingering = Union[Request, SourceState, Stream]


class Link:
    """The state of one link that this client dialled."""

    def __init__(self, identity: Identity, remote: str, now: float, limits: Limits, name: Optional[str] = None) -> None:
        self.identity = identity
        self.remote = remote
        self.limits = limits
        self.peer = 0
        self.handshake: Optional[Handshake] = None
        # Whether the peer leaves (GOAWAY).
        self.leaving = False
        self.lost: Optional[ChanservError] = None
        # Whether the connection takes no bytes at the moment.
        self.paused = False
        self.out: List[bytes] = []
        self._out_size = 0
        # Streams whose bodies wait until the output is written.
        self.blocked: Dict[Stream, None] = {}
        self.buffered = 0
        self.extra_window = 0
        self.granted = 0
        self.streams: Dict[StreamKey, Stream] = {}
        self.requests: Dict[Request, None] = {}
        self.offers: Dict[str, Dict[Address, bool]] = {}
        self.offer_count = 0
        self.awaited: Dict[Tuple[int, str], SourceState] = {}
        # Cancelled requests and sources of which announcements may arrive, and the time until then.
        self._lingering: Dict[Lingering, Optional[float]] = {}
        self._decoder = ops.OpDecoder()
        self._changes: Dict[object, None] = {}
        self._started = self._received = self._written = now
        self._busy = now
        own = Handshake(address=remote, abilities=identity.abilities, max_op=ops.MAX_OP, name=name)
        self.send(ops.HANDSHAKE, 0, 0, 0, ops.encode_handshake(own))

    # Output and changes

    def send(self, command: int, host: int, to_port: int, from_port: int, payload: bytes = b"") -> None:
        if self.lost is None:
            header = ops.HEADER.pack(command, host, self.identity.host_id, to_port, from_port, len(payload))
            self.out.append(header + payload)
            self._out_size += len(header) + len(payload)

    @property
    def is_full(self) -> bool:
        """Whether bodies must wait. Otherwise many of them at once would be copied to the output as a whole."""
        return self.paused or self._out_size >= MAX_OUTPUT

    def take_output(self, now: float) -> List[bytes]:
        out = self.out
        if out:
            self.out = []
            self._out_size = 0
            self._written = now
        return out

    def changed(self, state: Optional[object]) -> None:
        if state is not None:
            self._changes[state] = None

    def take_changes(self) -> List[object]:
        """Returns the requests, sources and links (for offers) that changed. Their readers must look again."""
        changes = list(self._changes)
        self._changes.clear()
        return changes

    # What the peer can do

    def uses(self, ability: str, host: int) -> bool:
        """Whether the ability is in use with the host: it is the peer, and both ends have announced it."""
        return (
            host == self.peer
            and self.handshake is not None
            and ability in self.handshake.abilities
            and ability in self.identity.abilities
        )

    def max_payload(self, host: int) -> int:
        if host == self.peer and self.handshake is not None:
            return min(self.handshake.max_op, ops.MAX_OP)
        return ops.DEFAULT_MAX_OP

    def is_silent(self, now: float) -> bool:
        return now - self._received > SILENT_AFTER

    # Time

    def tick(self, now: float) -> None:
        """Sends PING, and ends a link that is dead. Call it about every half second."""
        if self.lost is not None:
            return
        if self.handshake is None and now - self._started > HANDSHAKE_TIMEOUT:
            self.lose(ConnectionLost(f"{self.remote} sent no handshake for 10 s. Check that it is a chanserv node"))
        elif now - self._received > DEAD_AFTER:
            self.lose(ConnectionLost(f"{self.remote} sent nothing for 100 s, not even an answer to a PING"))
        elif now - self._written >= PING_INTERVAL:
            self.send(ops.PING, 0, 0, 0)
        if self.streams or self.requests:
            self._busy = now
        for state, until in list(self._lingering.items()):
            if until is None:
                self._lingering[state] = now + LINGER
            elif now > until:
                self._expire(state)

    def _expire(self, state: Lingering) -> None:
        if isinstance(state, Request):
            state.end_lingering()
        elif isinstance(state, Stream):
            self.end_lingering(state)
            state.end()
        else:
            self._end_awaiting(state)

    def is_idle(self, now: float) -> bool:
        """Whether a link whose peer leaves may be closed."""
        return self.leaving and not self.streams and not self.requests and now - self._busy > IDLE_TIMEOUT

    def lose(self, error: ChanservError) -> None:
        """Ends all streams, because the connection is lost. Bytes that came before stay readable."""
        if self.lost is not None:
            return
        self.lost = error
        self.offers.clear()
        self._end_streams(None, error)
        self.changed(self)

    def _end_streams(self, host: Optional[int], error: ChanservError) -> None:
        for stream in list(self.streams.values()):
            if host is None or stream.host == host:
                ended = stream.ended and not stream.outbox
                stream.receive_error("lost", error)
                stream.confirmed = True
                if not ended:
                    self.send(ops.ERR, stream.host, stream.peer_port, stream.port, b"lost")
                    self.send(ops.FIN1, stream.host, stream.peer_port, stream.port)
                    self.send(ops.FIN2, stream.host, stream.peer_port, stream.port)
                self.forget(stream)
                if stream.source is not None:
                    self._source_changed(stream.source)
                if stream.request is not None and stream.request.lingering:
                    stream.request.end_lingering()
        for request in list(self.requests):
            if host is None or request.host == host:
                request.pump()
                request.lose(error)
        for source in list(self.awaited.values()):
            if host is None or source.request.host == host:
                source.fail(error)
                self._end_awaiting(source)

    def resume(self) -> None:
        """Goes on with the bodies that wait, when output was written or the connection takes bytes again."""
        blocked, self.blocked = self.blocked, {}
        for stream in blocked:
            stream.pump()

    # Input

    def receive(self, data: bytes, now: float) -> None:
        """Takes bytes of the peer. Raises `ProtocolError`; the connection must be closed then."""
        self._received = now
        for op in self._decoder.feed(data):
            self._receive_op(op)
            if self.lost is not None:
                return

    def _receive_op(self, op: Op) -> None:
        command = op.command
        if self.handshake is None:
            if command == ops.HANDSHAKE:
                self._receive_handshake(op)
            return
        if op.to_host != 0 and op.to_host != self.identity.host_id:
            return
        if command in _STREAM_COMMANDS:
            stream = self.streams.get((op.from_host, op.from_port, op.to_port))
            if stream is not None:
                self._receive_stream_op(stream, op)
        elif command == ops.PING:
            self.send(ops.PONG, op.from_host, op.from_port, op.to_port)
        elif command == ops.SERVICE:
            self._receive_offer(op)
        elif command == ops.NO_SERVICE:
            self._receive_withdrawal(op)
        elif command == ops.DIAL:
            self._receive_dial(op)
        elif command == ops.RST:
            self._receive_reset(op.from_host)
        elif command == ops.GOAWAY:
            if op.from_host == self.peer:
                self.leaving = True
                self.changed(self)
        # This client relays nothing, follows no address and shares no memory: it ignores the other commands.

    def _receive_handshake(self, op: Op) -> None:
        if op.from_host in (0, self.identity.host_id):
            raise ProtocolError("the peer has no host id of its own. Its address may lead back to this client")
        self.handshake = ops.decode_handshake(op.payload)
        self.peer = op.from_host
        self.changed(self)

    # Offers

    def _receive_offer(self, op: Op) -> None:
        name = _name(op.payload)
        if name is None:
            return
        offers = self.offers.setdefault(name, {})
        address = (op.from_host, op.from_port)
        if address not in offers:
            cost = 1 + len(op.payload) // 128
            if self.offer_count + cost > self.limits.offers:
                if not offers:
                    del self.offers[name]
                return
            self.offer_count += cost
        # The value tells whether the offer is for this client alone.
        offers[address] = op.to_host != 0
        self.changed(self)
        source = self.awaited.pop((op.from_host, name), None)
        if source is not None:
            self._lingering.pop(source, None)
            source.dial(op.from_port)
            self.changed(source)

    def _receive_withdrawal(self, op: Op) -> None:
        name = _name(op.payload)
        if name is not None:
            self._remove_offer(name, (op.from_host, op.from_port))

    def _remove_offer(self, name: str, address: Address) -> None:
        offers = self.offers.get(name)
        if offers is not None and offers.pop(address, None) is not None:
            self.offer_count -= 1 + len(name.encode()) // 128
            if not offers:
                del self.offers[name]

    def _receive_reset(self, host: int) -> None:
        for name, offers in list(self.offers.items()):
            for address, private in list(offers.items()):
                if private and address[0] == host:
                    self._remove_offer(name, address)
        self._end_streams(host, ConnectionLost(f"the router {self.remote} lost the host of the request"))

    def await_name(self, source: SourceState) -> None:
        """Dials a named source, now or when its host announces the name."""
        assert source.name is not None
        host = source.request.host
        for address in self.offers.get(source.name, ()):
            if address[0] == host:
                source.dial(address[1])
                return
        self.awaited[host, source.name] = source
        if source.finished:
            self.linger(source)

    def _end_awaiting(self, source: SourceState) -> None:
        self._lingering.pop(source, None)
        if source.name is not None:
            self.awaited.pop((source.request.host, source.name), None)

    def linger(self, state: Lingering) -> None:
        """Keeps what was cancelled for 5 s, so that what its host announces or accepts meanwhile can be given up."""
        if self.lost is None:
            if len(self._lingering) >= self.limits.streams:
                self._expire(next(iter(self._lingering)))
            self._lingering[state] = None
        elif isinstance(state, SourceState):
            self._end_awaiting(state)

    def end_lingering(self, state: Lingering) -> None:
        self._lingering.pop(state, None)

    # Streams

    def dial(self, host: int, port: int, payload: bytes = b"", *, eager: bool = False) -> Stream:
        """Opens a stream. `eager`: also where the link is not, because of a cookie."""
        if len(self.streams) >= self.limits.streams:
            raise ProtocolError(f"the link has {self.limits.streams} open streams; close some")
        stream = Stream(self, host, port, self.identity.next_port(), eager=eager or self.uses("eager", host))
        self.streams[stream.key] = stream
        stream.send(ops.DIAL, payload)
        return stream

    def forget(self, stream: Stream) -> None:
        if not stream.closed:
            stream.closed = True
            self.extra_window -= max(0, stream.window - WINDOW)
            del self.streams[stream.key]
            self.blocked.pop(stream, None)
            if stream.abandoned:
                self.end_lingering(stream)

    def _receive_stream_op(self, stream: Stream, op: Op) -> None:
        command = op.command
        if command == ops.DATA:
            stream.receive_data(op.payload)
        elif command == ops.REWIND:
            if len(op.payload) == 4:
                stream.receive_rewind(ops.U32.unpack(op.payload)[0])
            return
        elif command == ops.WND_SIZE:
            if len(op.payload) == 4:
                stream.receive_window(ops.U32.unpack(op.payload)[0])
            return
        elif command == ops.SYN:
            self._receive_syn(stream, op.payload)
        elif command == ops.FIN1:
            stream.receive_fin1()
        elif command == ops.FIN2:
            if not stream.confirmed:
                # The host gave the stream up before it accepted it.
                stream.receive_error("the host gave the stream up", RequestFailed("the host gave the stream up"))
            elif not stream.ended:
                stream.fin2 = True
                request = stream.request
                if request is not None and len(op.payload) == 4:
                    request.expected = ops.U32.unpack(op.payload)[0]
        elif command in (ops.ERR, ops.FORCE_CLOSED):
            self._receive_error(stream, op)
        request, source = stream.request, stream.source
        if request is not None:
            request.pump()
            self.changed(request)
        elif source is not None:
            self._source_changed(source)
        if stream.abandoned and stream.error is not None:
            self.forget(stream)
        elif request is None:
            stream.forget_if_over()

    def _source_changed(self, source: SourceState) -> None:
        source.receive()
        self.changed(source)

    def _receive_syn(self, stream: Stream, payload: bytes) -> None:
        if stream.confirmed:
            return
        stream.confirmed = True
        request = stream.request
        if stream.opened:
            return
        stream.opened = True
        block = ops.decode_block(payload) if request is not None and request.grant is not None else None
        if block is not None and block.cookie is not None:
            self.identity.keep_cookie(stream.host, block.cookie)
            stream.eager = True
            stream.send(ops.ACK, ops.encode_block(Block(cookie=block.cookie)))
        else:
            stream.send(ops.ACK)
        if stream.abandoned:
            self.end_lingering(stream)
            stream.end()
        elif request is not None:
            self._send_body(request)

    def _receive_error(self, stream: Stream, op: Op) -> None:
        text = op.payload[: ops.MAX_ERROR_TEXT].decode("utf-8", "replace") if op.command == ops.ERR else ""
        kind: type[ChanservError] = RequestFailed if stream.request is not None else SourceFailed
        stream.receive_error(text, error_of_text(text, kind))

    def _receive_dial(self, op: Op) -> None:
        block = ops.decode_block(op.payload)
        if block is None or block.source is None:
            if self.uses("refuse", op.from_host):
                self._refuse(op, "this node is a client and offers no service")
            return
        entry = block.source
        master = self.streams.get((op.from_host, entry.stream, op.to_port))
        request = master.request if master is not None else None
        if request is None or master is None or not self._expects(request, master, entry):
            self._refuse(op, "no request waits for this source")
        elif (op.from_host, op.from_port, op.to_port) in self.streams or len(self.streams) >= self.limits.streams:
            self._refuse(op, "no place for another stream")
        elif request.grant is not None and request.unaccepted >= request.grant.sources:
            self._refuse(op, "more sources than the client granted")
            request.fail(ProtocolError("the host pushed more sources than the client granted"))
        else:
            window = request.grant.window if request.grant is not None else 0
            stream = Stream(self, op.from_host, op.from_port, op.to_port, eager=True, offered=True, window=window)
            self.streams[stream.key] = stream
            request.receive_source(stream)

    def _expects(self, request: Request, master: Stream, entry: SourceEntry) -> bool:
        return (
            request.grant is not None
            and request.grant.nonce == entry.nonce
            and request.next_index == entry.number
            and (not master.ended or request.is_missing)
            and not request.closed
        )

    def _refuse(self, op: Op, text: str) -> None:
        self.send(ops.ERR, op.from_host, op.from_port, op.to_port, text.encode())

    # Requests

    def post(self, address: Address, body: bytes, tags: Block) -> Request:
        """Sends a request to an offer of this link. `tags` has no grant and no cookie."""
        if len(body) > MAX_FRAME:
            raise ValueError(f"the body has {len(body)} bytes; the limit is {MAX_FRAME}")
        host, port = address
        direct = host == self.peer
        with_block = self.uses("push", host) or not direct
        grant = self._grant() if with_block and "push" in self.identity.abilities else None
        cookie = self.identity.cookie(host) if grant is not None and not direct else None
        block = ops.encode_block(tags._replace(push=grant, cookie=cookie)) if with_block else b""
        request = Request(self, host, body, grant, self.identity.suffix, self.limits.sources)
        self.requests[request] = None
        try:
            # A cookie opens the stream for the host with the DIAL.
            stream = self.dial(host, port, b"" if block == b"\x01" else block, eager=cookie is not None)
        except ProtocolError:
            self.release_grant(request)
            raise
        if grant is not None:
            self.granted += grant.sources * grant.window
        request.master = stream
        stream.request = request
        if stream.opened:
            self._send_body(request)
        return request

    def _send_body(self, request: Request) -> None:
        if request.master is not None:
            request.master.write(frame_header(len(request.body)), request.body)
            request.body = b""

    def _grant(self) -> Optional[Grant]:
        left = self.limits.buffer // 4 - self.granted
        sources = min(self.limits.sources, left // GRANT_WINDOW)
        return Grant(self.identity.nonces(), sources, GRANT_WINDOW) if sources > 0 else None

    def release_grant(self, request: Request) -> None:
        """Forgets a request whose list has ended. Its sources go on."""
        if request in self.requests:
            del self.requests[request]
            if request.grant is not None and request.master is not None:
                self.granted -= request.grant.sources * request.grant.window


_STREAM_COMMANDS = frozenset(
    (ops.SYN, ops.ACK, ops.SYN_ACK, ops.FIN1, ops.FIN2, ops.ERR, ops.FORCE_CLOSED, ops.DATA, ops.WND_SIZE, ops.REWIND)
)


def _name(payload: bytes) -> Optional[str]:
    if not 1 <= len(payload) <= ops.MAX_NAME:
        return None
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        return None
