"""The asyncio shell of one link: a connection, its timer, and the tasks that wait."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, List, Optional, cast

from ._link import Link
from .errors import ChanservError, Closed, ConnectionLost, ProtocolError

TICK = 0.5
WRITE_TIMEOUT = 10.0
# Bytes that the connection has not taken: ops of control, because bodies wait when little is unwritten.
MAX_UNWRITTEN = 8_388_608
CLOSE_TIMEOUT = 2.0


class Connection(asyncio.Protocol):
    """Performs what the state of a link asks for."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, make: Callable[[str], Link], remote: str, wake: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._make = make
        self._remote = remote
        # Called when the offers, the handshake or the end of the link may have changed.
        self._wake = wake
        self._link: Optional[Link] = None
        self._transport: Optional[asyncio.Transport] = None
        self._waiters: Dict[object, List[asyncio.Future[bool]]] = {}
        self._timer: Optional[asyncio.TimerHandle] = None
        self._flushing = False
        self._stuck_since = 0.0
        self._stuck_size = 0
        self.ended: asyncio.Future[None] = loop.create_future()

    @property
    def link(self) -> Link:
        assert self._link is not None, "the connection is not made"
        return self._link

    # Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer: Any = transport.get_extra_info("peername")
        remote = ""
        if isinstance(peer, tuple):
            remote = f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
        self._link = self._make(remote)
        self._link.remote = self._remote
        self._timer = self._loop.call_later(TICK, self._tick)
        self.flush()

    def data_received(self, data: bytes) -> None:
        link = self.link
        try:
            link.receive(data, self._loop.time())
        except ProtocolError as error:
            self._lose(ConnectionLost(f"lost the link to {self._remote}: {error}"))
            return
        self.notify()
        if link.out:
            self.flush_soon()

    def pause_writing(self) -> None:
        self.link.paused = True
        self._stuck_since = self._loop.time()
        self._stuck_size = self._unwritten

    def resume_writing(self) -> None:
        self.link.paused = False
        self.flush_soon()

    def connection_lost(self, exception: Optional[Exception]) -> None:
        reason = f": {exception}" if exception is not None else ", which closed it"
        self._end(ConnectionLost(f"lost the link to {self._remote}{reason}"))
        # With Python 3.9 a lost TLS transport raises from its methods, and warns if it was not closed.
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        if not self.ended.done():
            self.ended.set_result(None)

    # Writing

    @property
    def _unwritten(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def flush(self) -> None:
        """Writes the ops of the link."""
        self._flushing = False
        link, transport = self.link, self._transport
        while True:
            out = link.take_output(self._loop.time())
            if out and transport is not None and not transport.is_closing():
                transport.write(out[0] if len(out) == 1 else b"".join(out))
            # The transport sets `paused` in `write` when its buffer is full.
            if not link.blocked or link.is_full:
                break
            link.resume()
            if not link.out:
                break
        if self._unwritten > MAX_UNWRITTEN:
            self._lose(ConnectionLost(f"{self._remote} takes no bytes, and {self._unwritten} bytes wait"))

    def flush_soon(self) -> None:
        """Writes at the end of this turn of the loop, so that small ops leave together."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    # Time

    def _tick(self) -> None:
        now = self._loop.time()
        link = self.link
        link.tick(now)
        if link.paused:
            size = self._unwritten
            if size < self._stuck_size:
                self._stuck_since, self._stuck_size = now, size
            elif now - self._stuck_since > WRITE_TIMEOUT:
                link.lose(ConnectionLost(f"{self._remote} took no bytes for 10 s"))
        if link.lost is not None:
            self._lose(link.lost)
            return
        if link.is_idle(now):
            self.close()
            return
        self.flush()
        self._timer = self._loop.call_later(TICK, self._tick)

    # Waiting

    def notify(self) -> None:
        """Wakes the tasks that wait for what has changed."""
        for state in self.link.take_changes():
            if state is self._link:
                self._wake()
            for future in self._waiters.get(state, ()):
                if not future.done():
                    future.set_result(True)

    async def wait(self, state: object, until: Optional[float]) -> bool:
        """Waits until the request or source has changed. Returns `False` if the time `until` has come before."""
        if self.link.out:
            self.flush_soon()
        future: asyncio.Future[bool] = self._loop.create_future()
        waiters = self._waiters.setdefault(state, [])
        waiters.append(future)
        timer = None
        if until is not None:
            timer = self._loop.call_at(until, _expire, future)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            waiters.remove(future)
            if not waiters:
                self._waiters.pop(state, None)

    # Ends

    def _end(self, error: ChanservError) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._link is not None:
            self._link.lose(error)
            self.notify()

    def _lose(self, error: ChanservError) -> None:
        self._end(error)
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Closes the connection when its bytes are written, at the latest after 2 s."""
        transport = self._transport
        if transport is None:
            return
        if not transport.is_closing():
            self.flush()
            transport.close()
            self._loop.call_later(CLOSE_TIMEOUT, transport.abort)
        self._end(Closed("the client was closed"))


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
