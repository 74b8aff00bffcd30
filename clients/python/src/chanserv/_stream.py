"""One stream of a link: opening, credit and ends (docs/protocol.md §4). Pure: ops in, ops out."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Tuple

from . import _ops as ops
from .errors import ChanservError, ProtocolError

if TYPE_CHECKING:
    from ._link import Link
    from ._request import Request, SourceState

WINDOW = 65_536
# The largest window that this client gives.
MAX_WINDOW = 1_048_576

StreamKey = Tuple[int, int, int]


class Stream:
    """A stream that this client dialled, or a pushed source."""

    __slots__ = (
        "link", "host", "peer_port", "port", "eager", "opened", "offered", "window", "unacked", "consumed",
        "taken", "chunks", "buffered", "fin1", "fin2", "error", "refusal", "closed", "send_window", "in_flight",
        "outbox", "sent_data", "confirmed", "abandoned", "request", "source",
    )  # fmt: skip

    def __init__(
        self,
        link: Link,
        host: int,
        peer_port: int,
        port: int,
        *,
        eager: bool,
        offered: bool = False,
        window: int = WINDOW,
    ) -> None:
        self.link = link
        self.host = host
        self.peer_port = peer_port
        self.port = port
        # Whether both ends forget the stream without an answer to its ends.
        self.eager = eager
        # Whether DATA may be sent.
        self.opened = eager
        # Whether the host has accepted the stream.
        self.confirmed = offered
        # Whether the client closed it before the host answered the DIAL.
        self.abandoned = False
        # Whether this is a pushed source that the client has not accepted.
        self.offered = offered
        self.window = window
        # Bytes that arrived and whose credit was not returned; the part of them that was taken.
        self.unacked = 0
        self.consumed = 0
        # Bytes taken since the window was enlarged.
        self.taken = 0
        self.chunks: List[bytes] = []
        self.buffered = 0
        self.fin1 = False
        self.fin2 = False
        self.error: Optional[ChanservError] = None
        # The text of an ERR that came before the stream was open.
        self.refusal: Optional[str] = None
        self.closed = False
        self.send_window = WINDOW
        self.in_flight = 0
        self.outbox = memoryview(b"")
        self.sent_data = False
        self.request: Optional[Request] = None
        self.source: Optional[SourceState] = None

    @property
    def key(self) -> StreamKey:
        return (self.host, self.peer_port, self.port)

    @property
    def ended(self) -> bool:
        """Whether no byte will arrive any more."""
        return self.fin2 or self.error is not None

    def send(self, command: int, payload: bytes = b"") -> None:
        self.link.send(command, self.host, self.peer_port, self.port, payload)

    # Receiving

    def receive_data(self, payload: bytes) -> None:
        if self.ended or not payload:
            return
        count = len(payload)
        self.unacked += count
        if self.unacked > self.window:
            text = "the host sent more bytes than the window of the stream allows"
            if self.offered and self.source is not None:
                # Only the request can be failed for a broken grant (docs/protocol.md §6.4).
                self.source.request.fail(ProtocolError(text))
            self.fail(ProtocolError(text))
            return
        if self.link.buffered + count > self.link.limits.buffer:
            self.fail(ProtocolError(f"the client buffers {self.link.limits.buffer} bytes; read the open sources"))
            return
        self.chunks.append(payload)
        self.buffered += count
        self.link.buffered += count

    def take(self) -> bytes:
        """Returns all bytes that have arrived. `return_credit` tells the host."""
        data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks = []
        self.link.buffered -= self.buffered
        self.consumed += self.buffered
        self.taken += self.buffered
        self.buffered = 0
        return data

    def return_credit(self, at_least: int = 1) -> None:
        """Sends REWIND for the bytes that were taken, if they are `at_least` so many."""
        if self.ended or self.closed or self.consumed < max(1, at_least):
            return
        self.send(ops.REWIND, ops.U32.pack(self.consumed))
        self.unacked -= self.consumed
        self.consumed = 0
        if self.taken >= self.window and not self.offered:
            self._enlarge()

    def _enlarge(self) -> None:
        """Doubles the window of a stream whose host has filled it."""
        extra = self.window
        if (
            self.window < MAX_WINDOW
            and self.link.uses("window", self.host)
            and self.link.extra_window + extra <= self.link.limits.buffer // 4
        ):
            self.link.extra_window += extra
            self.window += extra
            self.taken = 0
            self.send(ops.WND_SIZE, ops.U32.pack(self.window))

    def receive_fin1(self) -> None:
        self.fin1 = True
        self.outbox = memoryview(b"")

    def receive_error(self, text: str, error: ChanservError) -> None:
        if not self.confirmed:
            self.refusal = text
        self.fin1 = True
        self.outbox = memoryview(b"")
        if not self.fin2 and self.error is None:
            self.error = error

    # Sending

    def write(self, *parts: bytes) -> None:
        self.outbox = memoryview(b"".join(parts))
        self.pump()

    def pump(self) -> None:
        """Sends what credit and the connection allow."""
        if not self.opened or self.closed:
            return
        limit = self.link.max_payload(self.host)
        while self.outbox:
            if self.link.is_full:
                self.link.blocked[self] = None
                return
            count = min(len(self.outbox), self.send_window - self.in_flight, limit)
            if count <= 0:
                return
            self.send(ops.DATA, bytes(self.outbox[:count]))
            self.outbox = self.outbox[count:]
            self.in_flight += count
            self.sent_data = True

    def receive_rewind(self, count: int) -> None:
        if count > self.in_flight:
            self.fail(ProtocolError("the host returned more credit than the client had used"))
            return
        self.in_flight -= count
        self.pump()

    def receive_window(self, size: int) -> None:
        self.send_window = size
        self.pump()

    # Ending

    def accept(self) -> None:
        """Accepts a pushed source (docs/protocol.md §6.5)."""
        if not self.offered or self.closed:
            return
        self.offered = False
        self.window = WINDOW
        self.send(ops.SYN)
        self.forget_if_over()

    def forget_if_over(self) -> None:
        """Both ends forget an eager stream when it is over. The bytes that arrived stay readable."""
        over = (self.fin1 and self.fin2) or self.error is not None
        if over and self.eager and not self.offered and not self.outbox:
            self.link.forget(self)

    def half_close(self) -> None:
        """Closes both directions, but takes what the host sent before it knew."""
        self.outbox = memoryview(b"")
        if not self.closed:
            # FIN1 would make the host drop what it has not sent. FIN2 alone cancels too: Go clients send nothing else.
            self.send(ops.FIN2)

    def close(self) -> None:
        """Closes both directions and drops what was not taken."""
        if self.buffered:
            self.link.buffered -= self.buffered
            self.chunks, self.buffered = [], 0
        self.outbox = memoryview(b"")
        if self.closed:
            return
        if not self.opened and self.request is None and self.error is None:
            # The host drops the name of a source only for a dialler that sends ACK, which SYN allows.
            self.abandoned = True
            self.link.linger(self)
            return
        self.end()

    def end(self) -> None:
        """Closes a stream whose bytes were dropped."""
        if self.closed:
            return
        over = self.error is not None or (self.eager and self.fin1 and self.fin2)
        if self.offered or not over:
            self.offered = False
            self.send(ops.FIN1)
            self.send(ops.FIN2)
        self.link.forget(self)

    def fail(self, error: ChanservError) -> None:
        """Fails both directions. The reader gets the error behind the bytes that arrived before."""
        if self.error is None and not self.fin2:
            self.error = error
        self.outbox = memoryview(b"")
        if self.closed:
            return
        self.offered = False
        self.send(ops.ERR, str(error).encode()[: ops.MAX_ERROR_TEXT])
        self.send(ops.FIN1)
        self.send(ops.FIN2)
        self.link.forget(self)
        if self.request is not None:
            self.request.pump()
            self.link.changed(self.request)
        elif self.source is not None:
            self.source.receive()
            self.link.changed(self.source)
