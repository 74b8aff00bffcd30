"""Frames (docs/protocol.md §5). Pure."""

from __future__ import annotations

from typing import List, Optional

from ._lz4 import decompress
from .errors import FrameError

MAX_FRAME = 104_857_600
MAX_UNCOMPRESSED = 209_715_200
MARK = b"lz4!"


def frame_header(length: int) -> bytes:
    """Returns the 8 bytes before a frame of `length` bytes."""
    return length.to_bytes(8, "little")


def decode_frame(frame: bytes) -> bytes:
    """Returns the payload of a frame of a source, decompressed if the frame is compressed. Raises `FrameError`."""
    if len(frame) <= 12 or not frame.startswith(MARK):
        return frame
    size = int.from_bytes(frame[4:12], "little")
    # A block of n bytes stands for at most 255 * n bytes, so a larger claim would only make the client allocate.
    if size > MAX_UNCOMPRESSED or size > 255 * (len(frame) - 12):
        raise FrameError(f"wrong uncompressed frame size: a frame of {len(frame)} bytes claims {size}")
    return decompress(frame[12:], size)


class FrameDecoder:
    """Cuts the bytes of a stream into frames, which it does not decompress."""

    __slots__ = ("_data", "_at", "_parts", "_missing")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        # The parts of a frame that is longer than what has arrived, and the bytes that are missing.
        self._parts: List[bytes] = []
        self._missing = 0

    def feed(self, data: bytes) -> None:
        if self._missing:
            part = data[: self._missing] if len(data) > self._missing else data
            self._parts.append(part)
            self._missing -= len(part)
            data = data[len(part) :]
            if not data:
                return
        rest = self._data[self._at :]
        self._data = rest + data if rest else data
        self._at = 0

    def next(self) -> Optional[bytes]:
        """Returns the next frame, or `None` if it has not arrived in full. Raises `FrameError`."""
        if self._parts:
            if self._missing:
                return None
            frame = b"".join(self._parts)
            self._parts = []
            return frame
        data, at = self._data, self._at
        available = len(data) - at - 8
        if available < 0:
            return None
        length = int.from_bytes(data[at : at + 8], "little")
        if length > MAX_FRAME:
            raise FrameError(f"wrong frame size: the host sends a frame of {length} bytes; the limit is {MAX_FRAME}")
        if available < length:
            # Later bytes are kept in parts, so that a large frame is copied only once.
            if available:
                self._parts = [data[at + 8 :]]
                self._missing = length - available
                self._data, self._at = b"", 0
            return None
        self._at = at + 8 + length
        return data[at + 8 : self._at]

    @property
    def next_length(self) -> int:
        """The length of the frame that has begun, or 0."""
        if self._parts:
            return self._missing + sum(map(len, self._parts))
        if len(self._data) - self._at < 8:
            return 0
        return int.from_bytes(self._data[self._at : self._at + 8], "little")

    @property
    def is_empty(self) -> bool:
        """Whether no byte of a next frame has arrived."""
        return not self._parts and self._at == len(self._data)
