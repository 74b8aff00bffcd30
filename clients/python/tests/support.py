"""Processes of the real command, and helpers for asyncio."""

from __future__ import annotations

import asyncio
import json
import os
import re
import selectors
import subprocess
import time
from pathlib import Path
from typing import Any, Coroutine, List, Optional, TypeVar

import pytest

Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parents[3]


def run(work: Coroutine[Any, Any, Result], limit: float = 60) -> Result:
    """Runs a coroutine with a deadline."""

    async def limited() -> Result:
        return await asyncio.wait_for(work, limit)

    return asyncio.run(limited())


def command() -> Path:
    """The real command. `scripts/test-python` sets CHANSERV; without it, the tests that need it are skipped."""
    path = os.environ.get("CHANSERV")
    if path is None:
        assert not os.environ.get("CI"), "set CHANSERV to the path of the command chanserv"
        pytest.skip("needs the command chanserv: set CHANSERV to its path, or use scripts/test-python")
    return Path(path)


class Process:
    """A host or a router."""

    def __init__(self, *arguments: str, folder: Path) -> None:
        self.lines: List[str] = []
        self._process = subprocess.Popen(
            [str(command()), *arguments], cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert self._process.stderr is not None
        self._errors = self._process.stderr
        os.set_blocking(self._errors.fileno(), False)
        found = re.search(r"listening on ([^,\s]+(?:, [^,\s]+)*),", self.await_line("ready: listening on", 60))
        assert found is not None, self.lines
        self.addresses = found.group(1).split(", ")

    @property
    def address(self) -> str:
        return self.addresses[0]

    @property
    def pid(self) -> int:
        return self._process.pid

    def await_line(self, text: str, limit: float = 30) -> str:
        """Returns the first line of the log with the text."""
        until = time.monotonic() + limit
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._errors, selectors.EVENT_READ)
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                assert time.monotonic() < until, f"no line with {text!r} in {self.lines}"
                if selector.select(until - time.monotonic()):
                    data = os.read(self._errors.fileno(), 65_536)
                    assert data, f"the process has ended: {self.lines}"
                    *lines, rest = (rest + data).split(b"\n")
                    self.lines += [line.decode() for line in lines]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._errors.close()


def plugin(name: str) -> Path:
    """The library of a sample plugin: beside the command."""
    folder = command().parent
    for file in (folder / f"lib{name}.so", folder / f"libChanserv{name}.so"):
        if file.exists():
            return file
    raise AssertionError(f"no library of the plugin {name} in {folder}")


def host_configuration(listen: str = "127.0.0.1:0", node: str = "") -> str:
    """A configuration with the sample plugins."""
    return f"""
node: {{listen: {listen}, control: host.sock, drain: 5s{node}}}
plugins:
  echo: {{path: {plugin("Echo")}}}
  load: {{path: {plugin("Load")}}}
  ticker: {{path: {plugin("Ticker")}}}
routes:
  - {{vaddr: echo, plugin: echo}}
  - {{vaddr: packed, plugin: echo, compression: true}}
  - {{vaddr: load, plugin: load}}
  - {{vaddr: loadpacked, plugin: load, compression: true}}
  - {{vaddr: ticker, plugin: ticker}}
  - {{vaddr: limited, plugin: ticker, timeouts: {{serving: 300ms}}}}
"""


def status(folder: Path) -> Any:
    """The status of the host whose control socket is in the folder."""
    output = subprocess.run(
        [str(command()), "status", "--json", "--socket", "host.sock"], cwd=folder, check=True, stdout=subprocess.PIPE
    )
    return json.loads(output.stdout)


def open_requests(folder: Path) -> int:
    return sum(route["requests_open"] + route["sources_open"] for route in status(folder)["routes"])


def await_idle(folder: Path, limit: float = 10) -> None:
    """Waits until the host has no open request and no open source."""
    until = time.monotonic() + limit
    while (count := open_requests(folder)) > 0:
        assert time.monotonic() < until, f"{count} requests and sources stay open"


def environment(**values: Optional[str]) -> Any:
    """The environment of this process with changes."""
    result = {**os.environ, **{key: value for key, value in values.items() if value is not None}}
    return {key: value for key, value in result.items() if values.get(key, "") is not None}
