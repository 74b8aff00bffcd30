"""`python -m chanserv post`: the command `chanserv post` in Python, for machines without it."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import sys
from typing import Any, Dict, List, Optional, Sequence, Set

from ._sources import Source
from .client import Client, connect
from .errors import ChanservError, DeadlineExceeded, Unavailable

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# Sources that are read at the same time. The others wait at the host.
_OPEN_SOURCES = 128


def duration(text: str) -> float:
    """Returns the seconds of `250ms`, `30s` or `1m30s`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"'{text}' is no duration; write 250ms, 30s or 1m30s")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise argparse.ArgumentTypeError("a duration must be above 0")
    return seconds


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        self.exit(64, f"chanserv: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m chanserv", description="A client of chanserv in Python.")
    post = parser.add_subparsers(dest="command", required=True, parser_class=_Parser).add_parser(
        "post",
        help="posts a request and prints the sources and frames that arrive",
        description="Posts a request and prints the sources and frames that arrive. The output and the exit codes are "
        "those of 'chanserv post': 0 success, 1 the request or a source failed, 66 the body cannot be read, "
        "69 unavailable, 130 interrupted.",
    )
    post.add_argument("vaddr", help="the virtual address")
    post.add_argument("stdin", nargs="?", choices=["-"], help="read the body from standard input")
    post.add_argument("--join", action="append", metavar="ADDRESS", help="host:port or unix:path; may be repeated")
    post.add_argument("--body", help="the body (default: empty)")
    post.add_argument("--body-file", metavar="FILE", help="read the body from this file")
    post.add_argument("--bucket", help="requests with the same bucket go to the same host")
    post.add_argument("--meta", help="free text for the service")
    post.add_argument("--deadline", type=duration, help="time limit of the whole answer, which the host receives too")
    post.add_argument("--idle-timeout", type=duration, help="maximum time without a source or a frame")
    post.add_argument("--timeout", type=duration, default=10.0, help="limit for joining and opening (default: 10s)")
    post.add_argument("--environment", default="", help="the environment of the address")
    post.add_argument("--output", choices=["text", "json", "raw"], default="text")
    post.add_argument("--tls", action="store_true", help="use TLS, with the CAs of the system unless --tls-ca is given")
    post.add_argument("--tls-ca", metavar="FILE", help="the CAs, in PEM")
    post.add_argument("--tls-cert", metavar="FILE", help="the certificate of this client, in PEM")
    post.add_argument("--tls-key", metavar="FILE", help="its private key, in PEM")
    post.add_argument("--server-name", help="the name that the certificate of the node must have")
    return parser


class _Printer:
    """Writes what arrives to standard output, and failures to standard error."""

    def __init__(self, output: str) -> None:
        self._output = output
        self.failed = False

    def _write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def _object(self, **values: Any) -> None:
        self._write(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def _bytes(self, index: int, key: str, data: bytes) -> None:
        try:
            self._object(source=index, **{key: data.decode("utf-8")})
        except UnicodeDecodeError:
            self._object(source=index, **{key + "_base64": base64.b64encode(data).decode()})

    def _line(self, index: int, text: str) -> None:
        self._write(f"[{index}] {_escaped(text)}\n".encode("utf-8", "replace"))

    def header(self, source: Source) -> None:
        if self._output == "json":
            self._bytes(source.index, "header", source.header)
        elif self._output == "text":
            self._line(source.index, "header: " + source.header.decode("utf-8", "backslashreplace"))

    def frame(self, source: Source, frame: bytes) -> None:
        if self._output == "json":
            self._bytes(source.index, "frame", frame)
        elif self._output == "raw":
            self._write(frame)
        else:
            text = frame.decode("utf-8", "backslashreplace")
            for line in (text[:-1] if text.endswith("\n") else text).split("\n"):
                self._line(source.index, line)

    def end(self, source: Source) -> None:
        if self._output == "json":
            self._object(source=source.index, end="ok")

    def fail(self, error: ChanservError, source: Optional[Source] = None) -> None:
        self.failed = True
        if self._output == "json":
            named: Dict[str, Any] = {} if source is None else {"source": source.index}
            self._object(**named, end="error", message=str(error))
        where = "" if source is None else f"source {source.index}: "
        print(f"chanserv: {where}{_escaped(str(error))}", file=sys.stderr)


def _escaped(text: str) -> str:
    """Escapes control characters, which could change the terminal."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


async def _read(source: Source, printer: _Printer, places: asyncio.Semaphore) -> None:
    try:
        printer.header(source)
        while True:
            frames = await source.batch()
            if not frames:
                break
            for frame in frames:
                printer.frame(source, frame)
        printer.end(source)
    except ChanservError as error:
        printer.fail(error, source)
    finally:
        places.release()


async def _post(client: Client, options: argparse.Namespace, body: bytes, printer: _Printer) -> int:
    posting = client.post(
        options.vaddr,
        body,
        timeout=options.deadline,
        idle_timeout=options.idle_timeout,
        bucket=options.bucket,
        meta=options.meta,
    )
    places = asyncio.Semaphore(_OPEN_SOURCES)
    readers: Set[asyncio.Task[None]] = set()
    listed = False
    async with posting as sources:
        try:
            while True:
                await places.acquire()
                try:
                    source = await sources.__anext__()
                except StopAsyncIteration:
                    break
                listed = True
                task = asyncio.get_running_loop().create_task(_read(source, printer, places))
                readers.add(task)
                task.add_done_callback(readers.discard)
        except ChanservError as error:
            await asyncio.gather(*readers)
            printer.fail(error)
            return 69 if not listed and isinstance(error, (Unavailable, DeadlineExceeded)) else 1
        await asyncio.gather(*readers)
    return 1 if printer.failed else 0


async def _main(options: argparse.Namespace, body: bytes) -> int:
    printer = _Printer(options.output)
    try:
        client = connect(
            *(options.join or ()),
            tls=options.tls or None,
            ca=options.tls_ca,
            cert=options.tls_cert,
            key=options.tls_key,
            server_name=options.server_name,
            environment=options.environment,
            timeout=options.timeout,
        )
    except (ValueError, OSError) as error:
        print(f"chanserv: {error}", file=sys.stderr)
        return 64
    try:
        async with client:
            return await _post(client, options, body, printer)
    except ChanservError as error:
        printer.fail(error)
        return 69 if isinstance(error, (Unavailable, DeadlineExceeded)) else 1


def main(arguments: Optional[Sequence[str]] = None) -> int:
    options = _parser().parse_args(arguments)
    given: List[bool] = [options.stdin is not None, options.body is not None, options.body_file is not None]
    if sum(given) > 1:
        print("chanserv: give the body once: --body, --body-file or -", file=sys.stderr)
        return 64
    try:
        if options.stdin is not None:
            body = sys.stdin.buffer.read()
        elif options.body_file is not None:
            with open(options.body_file, "rb") as file:
                body = file.read()
        else:
            body = (options.body or "").encode("utf-8", "surrogateescape")
    except OSError as error:
        print(f"chanserv: cannot read the body: {error}", file=sys.stderr)
        return 66
    try:
        return asyncio.run(_main(options, body))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141


if __name__ == "__main__":
    sys.exit(main())
