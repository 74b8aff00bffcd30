"""The client: `connect`, `post` and `fetch`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import secrets
import socket
import ssl
from types import TracebackType
from typing import Any, Coroutine, Dict, List, Optional, Set, Tuple, Type, Union

from ._address import TLS, NodeAddress, make_context, parse_address
from ._connection import Connection
from ._identity import Identity, Limits
from ._link import Address, Link
from ._ops import Block
from ._request import Request
from ._sources import MAX_FETCH, Sources
from .errors import (
    ChanservError,
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    JoinFailed,
    NoSources,
    ProtocolError,
    RequestRefused,
    ServiceBusy,
    ServiceNotFound,
    error_of_text,
)

Body = Union[bytes, bytearray, memoryview]

FAILOVER_AFTER = 2.0
FIRST_RETRY, LAST_RETRY = 0.25, 60.0
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


def connect(
    *addresses: str,
    tls: TLS = None,
    ca: Optional[str] = None,
    cert: Optional[str] = None,
    key: Optional[str] = None,
    server_name: Optional[str] = None,
    environment: str = "",
    timeout: float = 10.0,
    name: Optional[str] = None,
    limits: Optional[Limits] = None,
    pushed_sources: bool = True,
) -> Client:
    """Returns a client that joins the nodes as an async context manager.

    addresses: hosts or routers, as `host:port` or `unix:path`; 127.0.0.1:5555 by default. All are joined. Entering
        succeeds when one is linked and each has been tried. Lost links are joined again until the client is closed.
    tls: an `ssl.SSLContext`, or `True` for the CAs of the system. `ca`, `cert`, `key` (files in PEM) and
        `server_name` (default: the host of the address) imply it.
    environment: is appended to each virtual address, e.g. `staging`.
    timeout: seconds for joining, and for each request to find its address and to be accepted. A refused connection is
        tried again meanwhile, because the node may be starting.
    name: the name of this client in the lists of the nodes; 1 to 63 letters, digits, `-`, `_` and `.`.
    limits: what each link may hold; see `chanserv.Limits`.
    pushed_sources: `False` makes the client dial each source by its name, as Go clients do.

    Entering raises `JoinFailed`.
    """
    return Client(
        [parse_address(text) for text in addresses or ("127.0.0.1:5555",)],
        context=make_context(tls, ca, cert, key, server_name),
        server_name=server_name,
        environment=environment,
        timeout=timeout,
        name=name,
        limits=limits or Limits(),
        pushed_sources=pushed_sources,
    )


class _Member:
    """One address that the client joins."""

    def __init__(self, address: NodeAddress) -> None:
        self.address = address
        self.tried = False
        self.linked = False
        self.error: Optional[BaseException] = None
        # Whether another attempt would fail in the same way.
        self.hopeless = False


class Client:
    """A client. Create it with `connect`. All its methods belong to the event loop in which it was entered."""

    def __init__(
        self,
        addresses: List[NodeAddress],
        *,
        context: Optional[ssl.SSLContext],
        server_name: Optional[str],
        environment: str,
        timeout: float,
        name: Optional[str],
        limits: Limits,
        pushed_sources: bool,
    ) -> None:
        if timeout <= 0:
            raise ValueError("timeout must be above 0 seconds")
        self._members = [_Member(address) for address in addresses]
        self._context = context
        self._server_name = server_name
        self._timeout = timeout
        self._name = name
        self._limits = limits
        abilities = {"eager", "refuse", "window"} | ({"push"} if pushed_sources else set())
        host_id = int.from_bytes(os.urandom(8), "big") >> 1 or 1
        self._identity = Identity(host_id, lambda: secrets.randbits(64), abilities, environment)
        self._connections: List[Connection] = []
        self._tasks: List[asyncio.Task[None]] = []
        self._waiters: List[asyncio.Future[None]] = []
        self._closed = False

    # Joining

    async def __aenter__(self) -> Client:
        if self._tasks or self._closed:
            raise RuntimeError("a client can be entered only once; call connect again")
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeout
        self._tasks = [loop.create_task(self._keep_joined(member)) for member in self._members]
        try:
            while not self._joined:
                if all(member.hopeless for member in self._members) or not await self._change(until):
                    if any(member.linked for member in self._members):
                        break
                    raise self._join_error()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.close()

    @property
    def _joined(self) -> bool:
        return any(member.linked for member in self._members) and all(member.tried for member in self._members)

    def _join_error(self) -> JoinFailed:
        causes = [f"{member.address.text}: {member.error or 'no answer'}" for member in self._members]
        return JoinFailed(f"could not join {'; '.join(causes)} (waited at most {self._timeout:g} s)")

    async def close(self) -> None:
        """Ends all requests and links. Takes at most about 2 s."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for connection in self._connections:
            connection.close()
        ends = [connection.ended for connection in self._connections]
        await asyncio.gather(*self._tasks, *ends, return_exceptions=True)
        self._wake()

    async def _keep_joined(self, member: _Member) -> None:
        """Joins an address again and again until it is cancelled."""
        loop = asyncio.get_running_loop()
        pause = FIRST_RETRY
        while True:
            started = loop.time()
            try:
                connection = await self._join(member.address)
            except (OSError, ChanservError, asyncio.TimeoutError) as error:
                member.error = _explain(error, self._context)
                member.hopeless = isinstance(error, (ssl.SSLError, socket.gaierror, ConnectionLost, ProtocolError))
            else:
                member.linked = member.tried = True
                member.error, member.hopeless = None, False
                self._wake()
                await self._until_replaced(connection)
                member.linked = False
                if loop.time() - started > 1:
                    pause = FIRST_RETRY
                    if connection.link.lost is None:
                        # The peer leaves, and its successor accepts links already.
                        continue
            member.tried = True
            self._wake()
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, LAST_RETRY)

    async def _until_replaced(self, connection: Connection) -> None:
        """Returns when the link is lost or its peer leaves. A second link to the same host ends at once."""
        for twin in self._live():
            if twin is not connection and twin.link.peer == connection.link.peer and not twin.link.leaving:
                connection.close()
                connection = twin
                break
        while connection.link.lost is None and not connection.link.leaving:
            await self._change(None)

    async def _join(self, address: NodeAddress) -> Connection:
        loop = asyncio.get_running_loop()

        def make(remote: str) -> Link:
            return Link(self._identity, remote, loop.time(), self._limits, self._name)

        def protocol() -> Connection:
            return Connection(loop, make, address.text, self._wake)

        context = self._context
        if address.path is not None:
            name = self._server_name or ("" if context is not None else None)
            if context is not None and context.check_hostname and not name:
                raise ssl.SSLError("a Unix socket has no host name for TLS; set server_name")
            opening: Coroutine[Any, Any, Any] = loop.create_unix_connection(
                protocol, address.path, ssl=context, server_hostname=name
            )
        else:
            name = (self._server_name or address.host) if context is not None else None
            opening = loop.create_connection(protocol, address.host, address.port, ssl=context, server_hostname=name)
        connection: Connection = (await asyncio.wait_for(opening, self._timeout))[1]
        self._connections = [one for one in self._connections if not one.ended.done()] + [connection]
        while connection.link.handshake is None:
            if connection.link.lost is not None:
                raise connection.link.lost
            # The link itself ends after 10 s without a handshake.
            await self._change(None)
        return connection

    def _live(self) -> List[Connection]:
        return [one for one in self._connections if one.link.lost is None and one.link.handshake is not None]

    def _wake(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)

    async def _change(self, until: Optional[float]) -> bool:
        """Waits until links or offers change. Returns `False` if the time has come before."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiters.append(future)
        try:
            timeout = None if until is None else max(0, until - loop.time())
            return bool((await asyncio.wait([future], timeout=timeout))[0])
        finally:
            self._waiters.remove(future)

    # Requests

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
        """Sends a request, as an async context manager over its sources. Leaving it cancels what has not ended.

        vaddr: the virtual address, without the environment.
        body: at most 100 MiB.
        timeout: seconds from now to the last byte, no limit by default. The host receives it too; Go hosts do not.
        idle_timeout: maximum seconds to wait for each source and for each frame, no limit by default.
        bucket: requests with the same bucket go to the same host while the set of hosts stays the same.
        meta: free text for the service.
        trace_parent: a W3C `traceparent`.

        Entering raises `Unavailable` if no host has taken the request, and other `ChanservError`s.
        """
        for seconds in (timeout, idle_timeout):
            if seconds is not None and seconds <= 0:
                raise ValueError("a time limit must be above 0 seconds")
        if trace_parent is not None and not _TRACE_PARENT.match(trace_parent):
            raise ValueError(f"{trace_parent!r} is no W3C traceparent")
        tags = Block(meta=meta, bucket=bucket, trace_parent=trace_parent)
        return Posting(self, vaddr, bytes(body), timeout, idle_timeout, tags)

    async def fetch(
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
        """Returns the frames of the first source, joined. Takes the options of `post`.

        limit: maximum bytes, 100 MiB by default; more raise `AnswerTooLarge`. Raises `NoSources` for an empty answer.
        """
        posting = self.post(
            vaddr, body, timeout=timeout, idle_timeout=idle_timeout, bucket=bucket, meta=meta, trace_parent=trace_parent
        )
        async with posting as sources:
            async for source in sources:
                return await source.read(limit)
        raise NoSources(f"the answer of '{vaddr}' has no source")

    async def _open(
        self, vaddr: str, body: bytes, tags: Block, deadline: Optional[float]
    ) -> Tuple[Connection, Request]:
        loop = asyncio.get_running_loop()
        name = vaddr + self._identity.suffix
        until = loop.time() + self._timeout
        if deadline is not None:
            until = min(until, deadline)
        tried: Set[Address] = set()
        error: Optional[ChanservError] = None
        cookies = 0
        while True:
            if self._closed or not self._tasks:
                raise Closed("the client is not open; use `async with connect(…)`")
            candidates = self._candidates(name, tags.bucket, tried)
            if not candidates:
                if error is not None:
                    raise error
                if not await self._change(until):
                    if deadline is not None and loop.time() >= deadline:
                        raise DeadlineExceeded(f"deadline exceeded: no node offered '{name}' in time")
                    raise ServiceNotFound(f"no node offers '{name}' (waited {self._timeout:g} s)")
                continue
            connection, address = candidates[0]
            left = None if deadline is None else max(1, min(0xFFFFFFFF, int((deadline - loop.time()) * 1000)))
            request = connection.link.post(address, body, tags._replace(deadline=left))
            try:
                refusal = await self._opened(connection, request, until, len(candidates) > 1)
            except BaseException:
                request.close()
                connection.flush_soon()
                raise
            if refusal is None:
                return connection, request
            request.close()
            connection.flush_soon()
            if str(refusal) == "wrong cookie" and cookies < 3:
                cookies += 1
                self._identity.drop_cookie(address[0])
            else:
                tried.add(address)
                error = refusal

    async def _opened(
        self, connection: Connection, request: Request, until: float, others: bool
    ) -> Optional[ChanservError]:
        """Waits until a host has accepted the request. Returns why another offer may be tried, or `None`."""
        loop = asyncio.get_running_loop()
        master = request.master
        assert master is not None
        failover = loop.time() + FAILOVER_AFTER
        while True:
            if master.refusal is not None:
                return master.error if isinstance(master.error, ConnectionLost) else _refused(master.refusal)
            if isinstance(request.error, ConnectionLost) and not master.confirmed and not master.sent_data:
                return request.error
            if isinstance(request.error, ServiceBusy) and request.next_index == 0:
                return request.error
            if master.confirmed or request.listed:
                return None
            hurry = others and not master.sent_data
            if not await connection.wait(request, min(until, failover) if hurry else until):
                host = f"the host at {connection.link.remote} did not answer"
                if hurry and loop.time() < until:
                    return RequestRefused(f"{host} within {FAILOVER_AFTER:g} s")
                raise DeadlineExceeded(f"deadline exceeded: {host}; it may have received the request")

    def _candidates(self, name: str, bucket: Optional[str], tried: Set[Address]) -> List[Tuple[Connection, Address]]:
        """Returns the offers that may be dialled, the one to dial first."""
        now = asyncio.get_running_loop().time()
        best: Dict[Address, Tuple[Tuple[bool, bool, bool], Connection]] = {}
        for connection in self._live():
            link = connection.link
            for address in link.offers.get(name, ()):
                rank = (link.leaving, link.is_silent(now), address[0] != link.peer)
                if address not in tried and (address not in best or rank < best[address][0]):
                    best[address] = (rank, connection)

        def order(address: Address) -> Any:
            if bucket is None:
                chosen: Any = random.random()
            else:
                # The offer with the smallest hash: another offer that comes or goes moves only its own buckets.
                text = f"{address[0]}:{address[1]}:{bucket}"
                chosen = hashlib.sha256(text.encode()).digest()
            return (best[address][0][:2], chosen)

        return [(best[address][1], address) for address in sorted(best, key=order)]


def _refused(text: str) -> ChanservError:
    if text == "wrong cookie":
        return RequestRefused(text)
    return error_of_text(text or "the host refused the request", RequestRefused)


def _explain(error: BaseException, context: Optional[ssl.SSLContext]) -> BaseException:
    """Returns an error of joining with what to do."""
    if isinstance(error, asyncio.TimeoutError):
        return TimeoutError("no answer in time")
    if isinstance(error, ConnectionLost):
        hint = "the node may require a client certificate" if context is not None else "the node may require TLS"
        return ConnectionLost(f"{error} before its handshake; {hint}")
    return error


class Posting:
    """A request that is sent when it is entered with `async with`."""

    def __init__(
        self,
        client: Client,
        vaddr: str,
        body: bytes,
        timeout: Optional[float],
        idle_timeout: Optional[float],
        tags: Block,
    ) -> None:
        self._client = client
        self._vaddr = vaddr
        self._body = body
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._tags = tags
        self._sources: Optional[Sources] = None

    async def __aenter__(self) -> Sources:
        if self._sources is not None:
            raise RuntimeError("a request can be sent only once; call post again")
        deadline = None if self._timeout is None else asyncio.get_running_loop().time() + self._timeout
        connection, request = await self._client._open(self._vaddr, self._body, self._tags, deadline)
        self._body = b""
        self._sources = Sources(connection, request, deadline, self._idle_timeout)
        return self._sources

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._sources is not None:
            self._sources.close()
