"""The synchronous twin, the command, and the examples of the README, against the real host and router."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import List

import pytest

import chanserv
import chanserv.sync
from chanserv.__main__ import duration
from conftest import Mesh
from support import await_idle, command, environment


def test_the_synchronous_twin(mesh: Mesh) -> None:
    before = threading.active_count()
    with chanserv.sync.connect(mesh.router.address) as client:
        assert client.fetch("echo", b"hi", timeout=10, bucket="b", meta="m") == b"hi"
        with client.post("load", b"3 3000 20 random") as sources:
            found = list(sources)
            assert [source.header for source in found] == [b"0", b"1", b"2"]
            for source in reversed(found):
                assert [int.from_bytes(frame[8:16], "little") for frame in source] == list(range(3_000))
        with client.post("ticker", b"1 1ms 0") as sources:
            for source in sources:
                assert next(source) == b"tick 1"
                break
        with pytest.raises(chanserv.RequestFailed):
            client.fetch("load", b"bad")
        with client.post("limited", b"1 10ms 0") as sources, pytest.raises(chanserv.DeadlineExceeded):
            next(sources).read()
    assert threading.active_count() == before
    await_idle(mesh.folder)


def test_an_interruption_of_the_synchronous_twin_loses_no_frame(mesh: Mesh) -> None:
    numbers: List[int] = []
    interruptions = 0
    with chanserv.sync.connect(mesh.host.address) as client, client.post("load", b"1 300 64 random 1000") as sources:
        source = next(sources)
        stop = threading.Event()

        def interrupt() -> None:
            while not stop.wait(0.003):
                os.kill(os.getpid(), signal.SIGUSR1)

        class Interruption(Exception):
            pass

        waiting = False

        def handle(number: int, frame: object) -> None:
            if waiting:
                raise Interruption

        previous = signal.signal(signal.SIGUSR1, handle)
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            while len(numbers) < 300:
                try:
                    # Waits as `next` does, and leaves the result to it.
                    waiting = True
                    source._inbox.fill()
                    waiting = False
                except Interruption:
                    waiting = False
                    interruptions += 1
                    continue
                numbers.append(int.from_bytes(next(source)[8:16], "little"))
        finally:
            waiting = False
            stop.set()
            thread.join()
            signal.signal(signal.SIGUSR1, previous)
    assert numbers == list(range(300)) and interruptions > 5


def test_the_command(mesh: Mesh) -> None:
    def post(*arguments: str, body: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [sys.executable, "-m", "chanserv", "post", *arguments, "--join", mesh.router.address],
            input=body, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip

    assert post("echo", "-", "--output", "raw", body=b"\xff\n").stdout == b"\xff\n"
    assert post("echo", "--body", "one\ntwo\x1b").stdout == b"[0] header: \n[0] one\n[0] two\\x1b\n"
    reference = subprocess.run(
        [str(command()), "post", "ticker", "--body", "1 1ms 3", "--output", "json", "--join", mesh.router.address],
        check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert post("ticker", "--body", "1 1ms 3", "--output", "json").stdout == reference.stdout
    assert b'"frame_base64":"/w=="' in post("echo", "-", "--output", "json", body=b"\xff").stdout
    failed = post("load", "--body", "bad", "--output", "json")
    assert failed.returncode == 1 and b"bad request" in failed.stderr
    assert json.loads(failed.stdout.splitlines()[-1])["end"] == "error"
    assert post("nosuch", "--timeout", "200ms").returncode == 69
    assert post("ticker", "--body", "1 1ms 0", "--deadline", "200ms").returncode == 1
    assert post("echo", "--body-file", "/nonexistent").returncode == 66
    assert post("echo", "--timeout", "1x").returncode == 64
    assert duration("1m30s") == 90 and duration("250ms") == 0.25


# Documents


def test_the_examples_of_the_readme(mesh: Mesh, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        file = tmp_path / "example.py"
        file.write_text(example.replace("127.0.0.1:5555", mesh.host.address))
        output = subprocess.run(
            [sys.executable, "-W", "error", str(file)], env=environment(PYTHONPATH=None), cwd=tmp_path,
            check=True, stdout=subprocess.PIPE, timeout=60,
        )  # fmt: skip
        expected = re.findall(r"^# prints: (.*)$", example, re.MULTILINE)
        assert expected and output.stdout.decode().splitlines() == expected
