"""Decompression of one LZ4 block: with the package `lz4` if it is installed, else in Python."""

from __future__ import annotations

import importlib
from typing import Any, Optional

from .errors import FrameError


def decompress(block: bytes, size: int) -> bytes:
    """Decompresses a block to exactly `size` bytes. Raises `FrameError`. The caller has checked `size`."""
    return _decompress_native(block, size) if _native is not None else decompress_python(block, size)


def _corrupt() -> FrameError:
    return FrameError("corrupt compression: a frame does not decompress to the size that it claims")


def _import_native() -> Optional[Any]:
    try:
        return importlib.import_module("lz4.block")
    except ImportError:
        return None


_native = _import_native()


def _decompress_native(block: bytes, size: int) -> bytes:
    assert _native is not None
    try:
        data: bytes = _native.decompress(block, uncompressed_size=size)
    except (_native.LZ4BlockError, ValueError):
        raise _corrupt() from None
    if len(data) != size:
        raise _corrupt()
    return data


def decompress_python(block: bytes, size: int) -> bytes:
    """As `decompress`, without the package `lz4`: about 100 times slower."""
    output = bytearray()
    at, end = 0, len(block)
    try:
        while True:
            token = block[at]
            at += 1
            literals = token >> 4
            if literals == 15:
                while True:
                    more = block[at]
                    at += 1
                    literals += more
                    if more != 255:
                        break
            # Both lengths are checked before they size anything.
            if literals > end - at or literals > size - len(output):
                raise _corrupt()
            output += block[at : at + literals]
            at += literals
            if at == end:
                break
            offset = block[at] | block[at + 1] << 8
            at += 2
            match = token & 15
            if match == 15:
                while True:
                    more = block[at]
                    at += 1
                    match += more
                    if more != 255:
                        break
            match += 4
            start = len(output) - offset
            if offset == 0 or start < 0 or match > size - len(output):
                raise _corrupt()
            if offset >= match:
                output += output[start : start + match]
            else:
                pattern = bytes(output[start:])
                output += (pattern * (match // offset + 1))[:match]
    except IndexError:
        raise _corrupt() from None
    if len(output) != size:
        raise _corrupt()
    return bytes(output)
