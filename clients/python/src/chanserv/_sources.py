"""The answer of a request: its sources and their frames."""

from __future__ import annotations

import asyncio
from typing import AsyncIterator, Callable, List, Optional, Tuple, Union

from ._connection import Connection
from ._request import End, Request, SourceState, Wait
from .errors import AnswerTooLarge, ChanservError, DeadlineExceeded, RequestFailed

MAX_FETCH = 104_857_600
MISSING_AFTER = 1.0
OPEN_TIMEOUT = 10.0

# The time at which a wait ends, and the error that it ends with.
_Limit = Tuple[Optional[float], ChanservError]


class Reader:
    """Waits with the time limits of a request."""

    def __init__(self, connection: Connection, deadline: Optional[float], idle_timeout: Optional[float]) -> None:
        self._connection = connection
        self._deadline = deadline
        self._idle_timeout = idle_timeout

    def _check_deadline(self, fail: Callable[[ChanservError], None]) -> None:
        if self._deadline is not None and asyncio.get_running_loop().time() >= self._deadline:
            error = DeadlineExceeded("deadline exceeded: the answer is not complete")
            fail(error)
            self._connection.flush_soon()
            self._connection.notify()
            raise error

    async def _wait(self, state: object, limits: List[_Limit]) -> Optional[ChanservError]:
        """Waits for a change. Returns the error of the limit that has passed."""
        limits = [*limits, (self._deadline, DeadlineExceeded("deadline exceeded: the answer is not complete"))]
        times = [(time, error) for time, error in limits if time is not None]
        first = min(times, key=lambda pair: pair[0]) if times else None
        if await self._connection.wait(state, first[0] if first else None) or first is None:
            return None
        return first[1]


class Sources(Reader):
    """The sources of an answer. Iterate over it, in one task or in several.

    Sources come in the order in which the host lists them. Each can be read at any time, also at the same time as
    others. Cancelling a task that waits loses nothing: the next one gets what came.
    """

    def __init__(
        self, connection: Connection, request: Request, deadline: Optional[float], idle_timeout: Optional[float]
    ) -> None:
        super().__init__(connection, deadline, idle_timeout)
        self._request = request
        self._missing_since: Optional[float] = None

    def __aiter__(self) -> AsyncIterator[Source]:
        return self

    async def __anext__(self) -> Source:
        """Returns the next source. Raises `RequestFailed`, `ConnectionLost` or `DeadlineExceeded`."""
        loop = asyncio.get_running_loop()
        request = self._request
        idle = None if self._idle_timeout is None else loop.time() + self._idle_timeout
        while True:
            taken = request.take_source()
            if self._connection.link.out:
                self._connection.flush_soon()
            if isinstance(taken, SourceState):
                opened_by = loop.time() + OPEN_TIMEOUT
                return Source(self._connection, taken, self._deadline, self._idle_timeout, opened_by)
            if isinstance(taken, End):
                raise StopAsyncIteration
            self._check_deadline(request.fail)
            if request.is_missing and self._missing_since is None:
                self._missing_since = loop.time()
            missing = None if self._missing_since is None else self._missing_since + MISSING_AFTER
            error = await self._wait(
                request,
                [
                    (idle, DeadlineExceeded("deadline exceeded: the host listed no source within the idle timeout")),
                    (missing, RequestFailed("the router lost sources of the answer")),
                ],
            )
            if error is not None:
                request.fail(error)
                self._connection.notify()

    def close(self) -> None:
        """Cancels the request and all its sources, and frees them at the host."""
        self._request.close()
        self._connection.notify()
        self._connection.flush_soon()


class Source(Reader):
    """One source of an answer. Iterate over it for its frames."""

    def __init__(
        self,
        connection: Connection,
        state: SourceState,
        deadline: Optional[float],
        idle_timeout: Optional[float],
        opened_by: float,
    ) -> None:
        super().__init__(connection, deadline, idle_timeout)
        self._state = state
        self._opened_by = opened_by

    @property
    def header(self) -> bytes:
        """The header of the source, which may be empty."""
        return self._state.header or b""

    @property
    def index(self) -> int:
        """The number of the source in the answer, from 0."""
        return self._state.index

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Returns the next frame. Raises `SourceFailed`, `ConnectionLost`, `FrameError` or `DeadlineExceeded`."""
        state = self._state
        if self._deadline is not None:
            self._check_deadline(state.fail)
        taken = state.take_frame()
        if isinstance(taken, Wait):
            taken = await self._arrived()
        if self._connection.link.out:
            # The credit of what was taken, or the end of the stream.
            self._connection.flush_soon()
        if isinstance(taken, End):
            raise StopAsyncIteration
        return taken

    async def _arrived(self) -> Union[bytes, End]:
        loop = asyncio.get_running_loop()
        state = self._state
        idle = None if self._idle_timeout is None else loop.time() + self._idle_timeout
        while True:
            opening = None if state.is_open else self._opened_by
            error = await self._wait(
                state,
                [
                    (idle, DeadlineExceeded("deadline exceeded: the source sent no frame within the idle timeout")),
                    (opening, DeadlineExceeded("deadline exceeded: the host did not open the source within 10 s")),
                ],
            )
            taken = state.take_frame()
            if not isinstance(taken, Wait):
                return taken
            if error is not None:
                state.fail(error)
                self._connection.flush_soon()

    async def batch(self, limit: int = 1_024) -> List[bytes]:
        """Returns the next frames that have arrived, 1 to `limit`; none at the end of the source.

        Waits for the first one only. Faster than iterating for small frames.
        """
        try:
            frames = [await self.__anext__()]
        except StopAsyncIteration:
            return []
        try:
            while len(frames) < limit:
                taken = self._state.take_frame()
                if not isinstance(taken, bytes):
                    break
                frames.append(taken)
        except ChanservError:
            # The next call raises it again, behind the frames that came before it.
            pass
        return frames

    async def read(self, limit: int = MAX_FETCH) -> bytes:
        """Returns all remaining frames, joined. Raises `AnswerTooLarge` above `limit` bytes, 100 MiB by default."""
        parts: List[bytes] = []
        size = 0
        async for frame in self:
            size += len(frame)
            if size > limit:
                self.close()
                raise AnswerTooLarge(f"the source has more than {limit} bytes; raise limit, or iterate over its frames")
            parts.append(frame)
        return b"".join(parts)

    def close(self) -> None:
        """Gives the source up, and frees it at the host."""
        self._state.close()
        self._connection.notify()
        self._connection.flush_soon()
