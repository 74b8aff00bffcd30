"""Ops, handshakes and dial blocks (docs/protocol.md §1, §2, §6.1). Pure: bytes in, values out."""

from __future__ import annotations

import json
import re
import struct
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Optional

from .errors import ProtocolError

SYN, ACK, SYN_ACK, FIN1, FIN2, ERR, FORCE_CLOSED = 2, 4, 6, 8, 16, 32, 62
DATA, WND_SIZE, REWIND = 128, 129, 130
PING, PONG = 160, 161
DIAL, HANDSHAKE, SERVICE, NO_SERVICE, FOLLOW, DISCOVER, RST, GOAWAY = 190, 191, 192, 193, 194, 195, 196, 197

COMMANDS = frozenset(
    (SYN, ACK, SYN_ACK, FIN1, FIN2, ERR, FORCE_CLOSED, DATA, WND_SIZE, REWIND, PING, PONG)
    + (DIAL, HANDSHAKE, SERVICE, NO_SERVICE, FOLLOW, DISCOVER, RST, GOAWAY, 240, 241, 242)
)

HEADER = struct.Struct(">BQQIII")
U32 = struct.Struct(">I")

# The default maximum payload of an op, and the one that this client announces. Large ops cost less per byte.
DEFAULT_MAX_OP = 65_536
MAX_OP = 262_144

MAX_BLOCK = 4_096
# The identity that a router may add, which this client never sends.
MAX_IDENTITY_ENTRY = 1_027
MAX_NAME = 1_024
MAX_ERROR_TEXT = 1_024


class Op(NamedTuple):
    """One op on a link."""

    command: int
    to_host: int
    from_host: int
    to_port: int
    from_port: int
    payload: bytes


def encode_op(op: Op) -> bytes:
    command, to_host, from_host, to_port, from_port, payload = op
    return HEADER.pack(command, to_host, from_host, to_port, from_port, len(payload)) + payload


class OpDecoder:
    """Cuts a byte stream into ops. It holds at most one incomplete op."""

    def __init__(self, max_payload: int = MAX_OP) -> None:
        self._max = max_payload
        self._rest = bytearray()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[Op]:
        """Yields the ops that are complete with `data`. Raises `ProtocolError`; the link must end then."""
        if not self._begun and data:
            self._begun = True
            if data[0] not in COMMANDS:
                raise ProtocolError(
                    f"the peer is not a chanserv node: it sent {bytes(data[:40])!r}. "
                    "Check the address and whether the node requires TLS"
                )
        if self._rest:
            self._rest += data
            data = bytes(self._rest)
            self._rest.clear()
        at, end = 0, len(data)
        try:
            while end - at >= 29:
                command, to_host, from_host, to_port, from_port, length = HEADER.unpack_from(data, at)
                if length > self._max:
                    raise ProtocolError(f"the peer sent an op of {length} bytes; the limit is {self._max}")
                if end - at - 29 < length:
                    break
                start, at = at + 29, at + 29 + length
                yield Op(command, to_host, from_host, to_port, from_port, data[start:at])
        finally:
            self._rest += data[at:]


class Handshake(NamedTuple):
    """The payload of HANDSHAKE."""

    address: str = ""
    abilities: FrozenSet[str] = frozenset()
    max_op: int = DEFAULT_MAX_OP
    name: Optional[str] = None


_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}\Z")


def encode_handshake(handshake: Handshake) -> bytes:
    value: Dict[str, Any] = {}
    if handshake.abilities:
        value["Abilities"] = sorted(handshake.abilities)
    if handshake.max_op != DEFAULT_MAX_OP:
        value["MaxOp"] = handshake.max_op
    if handshake.name is not None:
        value["Name"] = handshake.name
    value["RAddr"] = handshake.address
    return json.dumps(value, separators=(",", ":")).encode()


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def decode_handshake(payload: bytes) -> Handshake:
    """Decodes the payload of HANDSHAKE. Raises `ProtocolError`."""
    try:
        value = json.loads(payload.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the peer sent a handshake that is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProtocolError("the peer sent a handshake that is not a JSON object")
    level: List[Any] = [value]
    for _ in range(32):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            break
    else:
        raise ProtocolError("the peer sent a handshake with more than 32 levels")

    def field(key: str, kind: type, default: Any) -> Any:
        found = value.get(key)
        if found is None:
            return default
        if not isinstance(found, kind) or isinstance(found, bool):
            raise ProtocolError(f"the peer sent a handshake with a wrong {key}")
        return found

    abilities = field("Abilities", list, [])
    if not all(isinstance(ability, str) for ability in abilities):
        raise ProtocolError("the peer sent a handshake with a wrong Abilities")
    name = field("Name", str, None)
    return Handshake(
        address=field("RAddr", str, ""),
        abilities=frozenset(abilities),
        max_op=max(DEFAULT_MAX_OP, field("MaxOp", int, DEFAULT_MAX_OP)),
        name=name if name is not None and _NAME.match(name) else None,
    )


class Grant(NamedTuple):
    """Entry 1 of a dial block: the permission to push sources."""

    nonce: int
    sources: int
    window: int


class SourceEntry(NamedTuple):
    """Entry 16 of a dial block: names a pushed source."""

    nonce: int
    stream: int
    number: int


class Block(NamedTuple):
    """A dial block."""

    push: Optional[Grant] = None
    cookie: Optional[int] = None
    deadline: Optional[int] = None
    meta: Optional[str] = None
    bucket: Optional[str] = None
    trace_parent: Optional[str] = None
    identity: Optional[str] = None
    source: Optional[SourceEntry] = None


_GRANT = struct.Struct(">QHI")
_COOKIE = struct.Struct(">Q")
_SOURCE = struct.Struct(">QII")


def encode_block(block: Block) -> bytes:
    """Encodes a dial block. Raises `ValueError` if it is longer than 4,096 bytes."""
    entries: List[bytes] = [b"\x01"]
    length = 1

    def add(kind: int, value: bytes) -> None:
        nonlocal length
        length += 3 + len(value)
        if length > MAX_BLOCK:
            raise ValueError(f"the tags of a request take at most {MAX_BLOCK} bytes together; shorten bucket or meta")
        entries.append(struct.pack(">BH", kind, len(value)) + value)

    if block.push is not None:
        add(1, _GRANT.pack(*block.push))
    if block.cookie is not None:
        add(2, _COOKIE.pack(block.cookie))
    if block.deadline is not None:
        add(3, U32.pack(block.deadline))
    if block.meta is not None:
        add(4, block.meta.encode("utf-8"))
    if block.bucket is not None:
        add(5, block.bucket.encode("utf-8"))
    if block.trace_parent is not None:
        add(6, block.trace_parent.encode("ascii"))
    if block.identity is not None:
        add(7, block.identity.encode("utf-8"))
    if block.source is not None:
        add(16, _SOURCE.pack(*block.source))
    return b"".join(entries)


_LENGTHS = {1: _GRANT.size, 2: _COOKIE.size, 3: 4, 16: _SOURCE.size}


def decode_block(payload: bytes) -> Optional[Block]:
    """Decodes a dial block. Returns `None` for a payload that a receiver ignores (docs/protocol.md §6.1)."""
    if not payload or payload[0] != 1 or len(payload) > MAX_BLOCK + MAX_IDENTITY_ENTRY:
        return None
    entries: Dict[int, bytes] = {}
    at = 1
    while at < len(payload):
        if len(payload) - at < 3:
            return None
        kind, length = struct.unpack_from(">BH", payload, at)
        value = payload[at + 3 : at + 3 + length]
        if len(value) != length or kind in entries or _LENGTHS.get(kind, length) != length:
            return None
        entries[kind] = value
        at += 3 + length

    try:
        identity = entries.get(7, b"").decode("utf-8") or None
    except UnicodeDecodeError:
        identity = None

    def text(kind: int, encoding: str) -> Optional[str]:
        return entries[kind].decode(encoding) if kind in entries else None

    try:
        return Block(
            push=Grant(*_GRANT.unpack(entries[1])) if 1 in entries else None,
            cookie=_COOKIE.unpack(entries[2])[0] if 2 in entries else None,
            deadline=U32.unpack(entries[3])[0] if 3 in entries else None,
            meta=text(4, "utf-8"),
            bucket=text(5, "utf-8"),
            trace_parent=text(6, "ascii"),
            identity=identity,
            source=SourceEntry(*_SOURCE.unpack(entries[16])) if 16 in entries else None,
        )
    except UnicodeDecodeError:
        return None
