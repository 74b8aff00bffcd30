"""What all links of a client share, and their limits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Callable, Optional, Set

MAX_COOKIES = 4_096
FIRST_PORT = (1 << 24) + 1


@dataclass(frozen=True)
class Limits:
    """What a host can make the client hold, for each link."""

    buffer: int = 268_435_456
    streams: int = 65_536
    offers: int = 262_144
    sources: int = 64


class Identity:
    """What all links of a client share: the host id, the ports and the cookies of hosts."""

    def __init__(self, host_id: int, nonces: Callable[[], int], abilities: Set[str], environment: str = "") -> None:
        self.host_id = host_id
        self.nonces = nonces
        self.abilities = frozenset(abilities)
        self.suffix = f".{environment}" if environment else ""
        self._port = FIRST_PORT - 1
        self._cookies: OrderedDict[int, int] = OrderedDict()

    def next_port(self) -> int:
        self._port = FIRST_PORT if self._port == 0xFFFFFFFF else self._port + 1
        return self._port

    def cookie(self, host: int) -> Optional[int]:
        return self._cookies.get(host)

    def keep_cookie(self, host: int, cookie: int) -> None:
        self._cookies[host] = cookie
        self._cookies.move_to_end(host)
        if len(self._cookies) > MAX_COOKIES:
            self._cookies.popitem(last=False)

    def drop_cookie(self, host: int) -> None:
        self._cookies.pop(host, None)
