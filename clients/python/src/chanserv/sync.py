"""The client without asyncio: the same names, with `with` and `for`.

    with chanserv.sync.connect("127.0.0.1:5555") as client:
        body = client.fetch("echo", b"hello")

A thread of the client runs the links, so they stay alive while the program does other things. A client and what it
returns may be used by several threads, but each source by one thread at a time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from types import TracebackType
from typing import Any, Callable, Coroutine, Deque, Generic, Iterator, List, Optional, Type, TypeVar

from . import _sources, client as _async
from ._sources import MAX_FETCH
from .client import Body
from .errors import AnswerTooLarge, ChanservError, Closed

_Result = TypeVar("_Result")
_Item = TypeVar("_Item")


class _Loop:
    """The thread of a client."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="chanserv", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    def start(self, coroutine: Coroutine[Any, Any, _Result]) -> concurrent.futures.Future[_Result]:
        if self.loop.is_closed():
            coroutine.close()
            raise Closed("the client was closed")
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Runs a coroutine to its end. An interruption cancels it."""
        future = self.start(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


def connect(*addresses: str, **options: Any) -> Client:
    """Returns a client as a context manager. Takes the arguments of `chanserv.connect`."""
    return Client(_async.connect(*addresses, **options))


class Client:
    """A client. Create it with `connect`."""

    def __init__(self, client: _async.Client) -> None:
        self._client = client
        self._loop: Optional[_Loop] = None

    def __enter__(self) -> Client:
        self._loop = _Loop()
        try:
            self._loop.run(self._client.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all requests and links. Takes at most about 2 s."""
        loop, self._loop = self._loop, None
        if loop is not None:
            try:
                loop.run(self._client.close())
            finally:
                loop.stop()

    @property
    def _running(self) -> _Loop:
        if self._loop is None:
            raise Closed("the client is not open; use `with connect(…)`")
        return self._loop

    def post(
        self,
        vaddr: str,
        body: Body = b"",
        *,
        timeout: Optional[float] = None,
        idle_timeout: Optional[float] = None,
        bucket: Optional[str] = None,
        meta: Optional[str] = None,
        trace_parent: Optional[str] = None,
    ) -> Posting:
        """Sends a request, as a context manager over its sources. See `chanserv.Client.post`."""
        posting = self._client.post(
            vaddr, body, timeout=timeout, idle_timeout=idle_timeout, bucket=bucket, meta=meta, trace_parent=trace_parent
        )
        return Posting(self._running, posting)

    def fetch(
        self,
        vaddr: str,
        body: Body = b"",
        *,
        timeout: Optional[float] = None,
        idle_timeout: Optional[float] = None,
        bucket: Optional[str] = None,
        meta: Optional[str] = None,
        trace_parent: Optional[str] = None,
        limit: int = MAX_FETCH,
    ) -> bytes:
        """Returns the frames of the first source, joined. See `chanserv.Client.fetch`."""
        return self._running.run(
            self._client.fetch(
                vaddr,
                body,
                timeout=timeout,
                idle_timeout=idle_timeout,
                bucket=bucket,
                meta=meta,
                trace_parent=trace_parent,
                limit=limit,
            )
        )


class Posting:
    """A request that is sent when it is entered with `with`."""

    def __init__(self, loop: _Loop, posting: _async.Posting) -> None:
        self._loop = loop
        self._posting = posting

    def __enter__(self) -> Sources:
        try:
            return Sources(self._loop, self._loop.run(self._posting.__aenter__()))
        except BaseException:
            self._loop.run(self._posting.__aexit__(None, None, None))
            raise

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._loop.run(self._posting.__aexit__(kind, error, trace))


class _Inbox(Generic[_Item]):
    """What a source or a list of sources has sent.

    The thread of the client puts items in, so an interruption (such as Ctrl-C) of a read that waits loses nothing: the
    next read finds what has come meanwhile.
    """

    def __init__(self, loop: _Loop, receive: Callable[[], Coroutine[Any, Any, List[_Item]]]) -> None:
        self._loop = loop
        # Returns the next items, none at the end.
        self._receive = receive
        self._items: Deque[_Item] = deque()
        self._ended = False
        self._error: Optional[ChanservError] = None
        self._future: Optional[concurrent.futures.Future[None]] = None

    async def _run(self) -> None:
        try:
            items = await self._receive()
        except ChanservError as error:
            self._error = error
            return
        self._items.extend(items)
        self._ended = not items

    def fill(self) -> None:
        """Waits for the next items, the end, or an error."""
        while not self._items and not self._ended and self._error is None:
            if self._future is None or self._future.done():
                self._future = self._loop.start(self._run())
            concurrent.futures.wait([self._future])
            if not self._future.cancelled():
                self._future.result()
            elif self._loop.loop.is_closed():
                raise Closed("the client was closed")

    def take(self) -> _Item:
        self.fill()
        if self._items:
            return self._items.popleft()
        if self._error is not None:
            raise self._error
        raise StopIteration


class Sources(Iterator["Source"]):
    """The sources of an answer. See `chanserv.Sources`."""

    def __init__(self, loop: _Loop, sources: _sources.Sources) -> None:
        self._loop = loop
        self._sources = sources
        self._inbox: _Inbox[_sources.Source] = _Inbox(loop, self._next)

    async def _next(self) -> List[_sources.Source]:
        async for source in self._sources:
            return [source]
        return []

    def __next__(self) -> Source:
        return Source(self._loop, self._inbox.take())


class Source(Iterator[bytes]):
    """One source of an answer. See `chanserv.Source`."""

    def __init__(self, loop: _Loop, source: _sources.Source) -> None:
        self._loop = loop
        self._source = source
        # Frames come in batches: a change of threads per frame would cost more than the frame.
        self._inbox: _Inbox[bytes] = _Inbox(loop, source.batch)

    @property
    def header(self) -> bytes:
        """The header of the source, which may be empty."""
        return self._source.header

    @property
    def index(self) -> int:
        """The number of the source in the answer, from 0."""
        return self._source.index

    def __next__(self) -> bytes:
        return self._inbox.take()

    def read(self, limit: int = MAX_FETCH) -> bytes:
        """Returns all remaining frames, joined. Raises `AnswerTooLarge` above `limit` bytes, 100 MiB by default."""
        parts = []
        size = 0
        for frame in self:
            size += len(frame)
            if size > limit:
                self.close()
                raise AnswerTooLarge(f"the source has more than {limit} bytes; raise limit, or iterate over it")
            parts.append(frame)
        return b"".join(parts)

    async def _close(self) -> None:
        self._source.close()

    def close(self) -> None:
        """Gives the source up, and frees it at the host."""
        self._loop.run(self._close())
