"""The test vectors of docs/protocol.md, and recordings of Go nodes in tests/wire."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

import pytest

from chanserv import FrameError, _lz4
from chanserv import _ops as ops
from chanserv._frames import FrameDecoder, decode_frame
from support import ROOT

DOCUMENT = (ROOT / "docs" / "protocol.md").read_text()
HOSTS = {"C": 0x63ACCD934040683D, "S": 0x2475F2C06609468E, "0": 0}
NAMES = {value: name for name, value in vars(ops).items() if isinstance(value, int) and value in ops.COMMANDS}


def blocks(kind: str) -> List[Tuple[str, List[str]]]:
    found = re.findall(rf"^```{kind} (\S+)\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    return [(name, text.splitlines()) for name, text in found]


class Vector(NamedTuple):
    sender: str
    command: str
    to: str
    source: str
    note: str
    data: bytes


def vectors(lines: List[str]) -> Iterator[Vector]:
    head, note, data = "", "", ""
    for line in [*lines, "C end to 0:0 from 0:0"]:
        if line.startswith("  ="):
            note = line[4:]
        elif line.startswith("  "):
            data += line
        elif not line.startswith("frames"):
            if head:
                sender, command, _, to, _, source = head.split()
                yield Vector(sender, command, to, source, note, bytes.fromhex(data))
            head, note, data = line, "", ""


def address(text: str) -> Tuple[int, int]:
    host, port = text.split(":")
    return HOSTS[host], int(port)


OPS = blocks("ops")
assert len(OPS) > 15


@pytest.mark.parametrize("lines", [lines for _, lines in OPS], ids=[name for name, _ in OPS])
def test_ops_of_the_document_decode_and_encode(lines: List[str]) -> None:
    for vector in vectors(lines):
        (op,) = ops.OpDecoder().feed(vector.data)
        assert ops.encode_op(op) == vector.data
        assert NAMES.get(op.command, vector.command) == vector.command
        assert (op.to_host, op.to_port) == address(vector.to)
        assert (op.from_host, op.from_port) == address(vector.source)
        if vector.command == "HANDSHAKE":
            assert ops.encode_handshake(ops.decode_handshake(op.payload)) == op.payload
        if vector.note.startswith("block "):
            block = ops.decode_block(op.payload)
            assert block is not None
            assert described(block) == vector.note
            assert ops.encode_block(block) == op.payload
        elif vector.note.startswith("text "):
            assert op.payload.decode() == json.loads(vector.note[5:])
        elif vector.note.startswith("number "):
            assert int.from_bytes(op.payload, "big") == int(vector.note[7:])


@pytest.mark.parametrize("lines", [lines for _, lines in OPS], ids=[name for name, _ in OPS])
def test_frames_of_the_document(lines: List[str]) -> None:
    for line in lines:
        if line.startswith("frames to "):
            _, _, to, _, source, texts = line.replace(": ", " ", 1).split(" ", 5)
            decoder = FrameDecoder()
            for vector in vectors(lines):
                if vector.command == "DATA" and (vector.to, vector.source) == (to, source):
                    decoder.feed(vector.data[29:])
            for text in re.findall(r'"(?:\\.|[^"\\])*"', texts):
                frame = decoder.next()
                assert frame is not None and decode_frame(frame).decode() == json.loads(text)
            assert decoder.next() is None and decoder.is_empty


def described(block: ops.Block) -> str:
    parts = []
    if block.push is not None:
        parts.append("push(nonce %016x, sources %d, window %d)" % block.push)
    if block.cookie is not None:
        parts.append("cookie(%016x)" % block.cookie)
    if block.deadline is not None:
        parts.append("deadline(%d ms)" % block.deadline)
    texts = [("meta", block.meta), ("bucket", block.bucket), ("traceparent", block.trace_parent)]
    for name, text in [*texts, ("identity", block.identity)]:
        if text is not None:
            parts.append('%s("%s")' % (name, text.replace("\n", "\\u000a")))
    if block.source is not None:
        parts.append("source(nonce %016x, stream %d, index %d)" % block.source)
    return "block " + (", ".join(parts) or "empty")


@pytest.mark.parametrize("kind", ["valid", "skipped", "ignored"])
def test_dial_blocks_of_the_document(kind: str) -> None:
    (lines,) = (lines for name, lines in blocks("blocks") if name == kind)
    for line in lines:
        data, text = line.split(" ", 1)
        payload = b"" if data == "-" else bytes.fromhex(data)
        block = ops.decode_block(payload)
        if kind == "ignored":
            assert block is None, text
        else:
            assert block is not None and described(block) == text
            assert kind == "skipped" or ops.encode_block(block) == payload


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("kind", ["raw", "compressed", "refused"])
def test_frame_vectors_of_the_document(kind: str, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(_lz4, "_native", None)
    (lines,) = (lines for name, lines in blocks("frames") if name == kind)
    for line in lines:
        data, text = line.split(" ", 1)
        decoder = FrameDecoder()
        if kind == "refused":
            with pytest.raises(FrameError) as raised:
                decoder.feed(bytes.fromhex(data))
                frame = decoder.next()
                if frame is None:
                    raise FrameError("truncated frame")
                decode_frame(frame)
            assert str(raised.value).startswith(text)
            continue
        match = re.fullmatch(r'(".*?")(?: (\d+) times)?', text)
        assert match is not None
        expected = ast.literal_eval(match.group(1)).encode() * int(match.group(2) or 1)
        for byte in bytes.fromhex(data):
            decoder.feed(bytes([byte]))
        frame = decoder.next()
        assert frame is not None and decode_frame(frame) == expected and decoder.is_empty


RECORDINGS = sorted((Path(__file__).parent / "wire").glob("*.jsonl"))
assert len(RECORDINGS) == 5


@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: file.stem)
def test_recordings_of_go_nodes_decode_in_any_parts(file: Path) -> None:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for sender in ("client", "server"):
        mine = [row for row in rows if row["from"] == sender]
        data = b"".join(bytes.fromhex(row["hex"]) for row in mine)
        for size in (1, 7, 29, 1_000, len(data)):
            decoder = ops.OpDecoder()
            found = [op for at in range(0, len(data), size) for op in decoder.feed(data[at : at + size])]
            assert b"".join(map(ops.encode_op, found)) == data
            assert [NAMES[op.command] for op in found] == [row["op"] for row in mine]
        streams: Dict[Tuple[int, ...], FrameDecoder] = {}
        for op in found:
            if op.command == ops.DATA:
                streams.setdefault(op[1:5], FrameDecoder()).feed(op.payload)
        for frames in streams.values():
            while (frame := frames.next()) is not None:
                decode_frame(frame)
            assert frames.is_empty
