"""The client against the real host and router: cancelling, deadlines, lost hosts and TLS."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import ssl
import subprocess
import time
from pathlib import Path
from typing import List, Optional

import pytest

import chanserv
import chanserv.sync
from chanserv._address import parse_address
from conftest import Mesh
from goserver import GoServer
from support import Process, await_idle, command, host_configuration, run

CANCELS = int(os.environ.get("CHANSERV_TEST_CANCELS", "1000"))


# Cancelling


@pytest.mark.parametrize("way", ["direct", "router"])
def test_cancelling_at_any_point_frees_the_host(mesh: Mesh, way: str) -> None:
    chance = random.Random(15)
    requests = (b"20 50 1000 random", b"2 4 200000 magic", b"1 1000000 64 text", b"0 0 0 zero")

    async def post(client: chanserv.Client) -> None:
        async with client.post("load", chance.choice(requests), timeout=chance.choice((None, 30))) as sources:
            if chance.random() < 0.3:
                found = [source async for source in sources]
                await asyncio.gather(*(source.read() for source in found))
            else:
                async for source in sources:
                    async for _ in source:
                        if chance.random() < 0.01:
                            await asyncio.sleep(0)

    async def cancelled(client: chanserv.Client) -> None:
        task = asyncio.get_running_loop().create_task(post(client))
        if chance.random() < 0.5:
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(chance.random() ** 3 * 0.02)
        task.cancel()
        try:
            await asyncio.wait_for(task, 10)
        except asyncio.CancelledError:
            pass

    async def worker(client: chanserv.Client, count: int) -> None:
        for _ in range(count):
            await cancelled(client)

    async def work() -> None:
        async with chanserv.connect(mesh.address(way)) as client, chanserv.connect(
            mesh.address(way), pushed_sources=False
        ) as named:
            await asyncio.gather(*(worker(one, CANCELS // 8 + 1) for one in (client, named) for _ in range(4)))
            # The links are open still: nothing is freed by their end.
            await asyncio.get_running_loop().run_in_executor(None, await_idle, mesh.folder)
            for one in (client, named):
                assert await one.fetch("echo", b"alive") == b"alive"
                (connection,) = one._live()
                while connection.link._lingering:
                    await asyncio.sleep(0.1)
                assert not connection.link.streams and not connection.link.requests and not connection.link.awaited
                assert connection.link.buffered == connection.link.granted == connection.link.extra_window == 0
                assert not connection._waiters

    run(work(), 30 + CANCELS / 10)


@pytest.mark.parametrize("pushed", [True, False], ids=["pushed", "named"])
def test_cancelling_a_read_loses_no_frame(mesh: Mesh, pushed: bool) -> None:
    chance = random.Random(15)

    async def work() -> None:
        async with chanserv.connect(mesh.host.address, pushed_sources=pushed) as client:
            async with client.post("load", b"1 400 64 random 4000") as sources:
                source: Optional[chanserv.Source] = None
                cancelled = 0
                while source is None:
                    task = asyncio.ensure_future(sources.__anext__())
                    await asyncio.sleep(0)
                    if task.cancel():
                        cancelled += 1
                    try:
                        source = await task
                    except asyncio.CancelledError:
                        await asyncio.sleep(0)
                numbers: List[int] = []
                while len(numbers) < 400:
                    task2 = asyncio.ensure_future(source.__anext__())
                    for _ in range(chance.randrange(4)):
                        await asyncio.sleep(0 if chance.random() < 0.5 else 0.0005)
                    cancelled += task2.cancel()
                    try:
                        numbers.append(int.from_bytes((await task2)[8:16], "little"))
                    except asyncio.CancelledError:
                        pass
                assert numbers == list(range(400)) and cancelled > 50
                with pytest.raises(StopAsyncIteration):
                    await source.__anext__()

    run(work())


def test_an_unread_source_holds_up_nothing(mesh: Mesh) -> None:
    async def work() -> None:
        for pushed in (True, False):
            async with chanserv.connect(mesh.router.address, pushed_sources=pushed) as client:
                async with client.post("load", b"100 50 10000 random") as sources:
                    found = [source async for source in sources]
                    for source in reversed(found[50:]):
                        assert len(await source.read()) == 500_000
                    found[0].close()
                    with pytest.raises(chanserv.Closed):
                        await found[0].__anext__()
                with pytest.raises(chanserv.Closed):
                    await found[1].read()
                assert await client.fetch("echo", b"next") == b"next"

    run(work())
    await_idle(mesh.folder)


def test_many_large_bodies_at_once(mesh: Mesh) -> None:
    async def work() -> None:
        body = bytes(range(256)) * 1_200
        async with chanserv.connect(mesh.host.address) as client:
            for answer in await asyncio.gather(*(client.fetch("echo", body) for _ in range(250))):
                assert answer == body

    run(work())


# Time limits and failures


def test_a_deadline_ends_the_request_at_both_ends(mesh: Mesh) -> None:
    async def work() -> None:
        async with chanserv.connect(mesh.host.address) as client:
            with pytest.raises(chanserv.DeadlineExceeded):
                await client.fetch("ticker", b"1 10ms 0", timeout=0.2)
            with pytest.raises(TimeoutError):
                await client.fetch("ticker", b"1 1h 0", idle_timeout=0.2)
            await asyncio.get_running_loop().run_in_executor(None, await_idle, mesh.folder)

    run(work())


def test_a_service_that_no_node_offers(mesh: Mesh) -> None:
    async def work() -> None:
        async with chanserv.connect(mesh.router.address, timeout=0.3) as client:
            with pytest.raises(chanserv.ServiceNotFound, match="no node offers 'nosuch'"):
                await client.fetch("nosuch")
            with pytest.raises(chanserv.DeadlineExceeded):
                await client.fetch("nosuch", timeout=0.1)

    run(work())


def test_an_answer_without_sources_and_one_that_is_too_large(mesh: Mesh) -> None:
    async def work() -> None:
        async with chanserv.connect(mesh.host.address) as client:
            with pytest.raises(chanserv.NoSources):
                await client.fetch("load", b"0 0 0 zero")
            with pytest.raises(chanserv.AnswerTooLarge, match="99"):
                await client.fetch("echo", bytes(100), limit=99)

    run(work())


def test_a_refused_connection_is_tried_again_and_reported(mesh: Mesh) -> None:
    async def work() -> None:
        with pytest.raises(chanserv.JoinFailed, match="127.0.0.1:1: .*refused|127.0.0.1:1: .*Connect call failed"):
            async with chanserv.connect("127.0.0.1:1", timeout=0.4):
                pass
        async with chanserv.connect("127.0.0.1:1", mesh.host.address) as client:
            assert await client.fetch("echo", b"one of two") == b"one of two"

    run(work())


def test_a_peer_that_is_no_node_is_reported() -> None:
    async def work() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        with pytest.raises(chanserv.JoinFailed, match="not a chanserv node"):
            async with chanserv.connect(address, timeout=20):
                pass
        server.close()

    run(work())


def test_a_killed_host_ends_its_requests_and_is_joined_again(tmp_path: Path) -> None:
    (tmp_path / "chanserv.yaml").write_text(host_configuration())
    first = Process("serve", folder=tmp_path)
    router = Process("router", "--listen", "127.0.0.1:0", "--join", first.address, folder=tmp_path)

    async def broken(client: chanserv.Client) -> None:
        with pytest.raises(chanserv.ConnectionLost):
            await client.fetch("ticker", b"1 10ms 0")

    async def work() -> None:
        async with chanserv.connect(first.address) as direct, chanserv.connect(router.address) as relayed:
            tasks = [asyncio.ensure_future(broken(client)) for client in (direct, relayed)]
            for client in (direct, relayed):
                assert await client.fetch("echo", b"hi") == b"hi"
            first.kill()
            await asyncio.gather(*tasks)
            (tmp_path / "chanserv.yaml").write_text(host_configuration(first.address))
            second = await asyncio.get_running_loop().run_in_executor(None, lambda: Process("serve", folder=tmp_path))
            try:
                for client in (direct, relayed):
                    assert await client.fetch("echo", b"again") == b"again"
            finally:
                second.stop()

    try:
        run(work())
    finally:
        first.stop()
        router.stop()


def test_a_replaced_host_is_joined_again_without_an_error(tmp_path: Path) -> None:
    (tmp_path / "chanserv.yaml").write_text(host_configuration())
    host = Process("serve", folder=tmp_path)

    async def work() -> int:
        async with chanserv.connect(host.address) as client:
            async with client.post("load", b"1 30 64 random 20") as sources:
                async for source in sources:
                    upgrade = await asyncio.create_subprocess_exec(
                        str(command()), "upgrade", "--socket", "host.sock", cwd=tmp_path, stdout=subprocess.DEVNULL
                    )
                    for _ in range(20):
                        assert await client.fetch("echo", b"hi") == b"hi"
                        await asyncio.sleep(0.05)
                    assert await upgrade.wait() == 0
                    assert len([frame async for frame in source]) == 30
            assert await client.fetch("echo", b"new") == b"new"
            return int(json.loads(subprocess.run(
                [str(command()), "status", "--json", "--socket", "host.sock"], cwd=tmp_path, check=True,
                stdout=subprocess.PIPE).stdout)["pid"])  # fmt: skip

    try:
        successor = run(work())
        assert successor != host.pid
        os.kill(successor, signal.SIGTERM)
    finally:
        host.stop()


def test_a_bucket_goes_to_the_same_host_and_a_silent_one_is_passed_over(mesh: Mesh) -> None:
    async def work() -> None:
        case = json.dumps({"sources": [{"header": "", "frames": [5], "kind": "text"}]}).encode()
        servers = [GoServer("twice") for _ in range(3)]
        for server in servers:
            await server.join(mesh.router.address)
        async with chanserv.connect(mesh.router.address) as client:
            (connection,) = client._live()
            while len(connection.link.offers.get("twice", ())) < 3:
                assert await client._change(asyncio.get_running_loop().time() + 10)
            for bucket in "abcdefgh":
                hosts = {client._candidates("twice", bucket, set())[0][1] for _ in range(5)}
                assert len(hosts) == 1
            assert len({client._candidates("twice", str(bucket), set())[0][1] for bucket in range(50)}) == 3
            # A Go host that has withdrawn the service in this moment ignores a DIAL.
            chosen = client._candidates("twice", "a", set())[0][1]
            deaf = next(server for server in servers if server.id == chosen[0])
            deaf.services.clear()
            assert await client.fetch("twice", case, bucket="a") == b"line "
        for server in servers:
            await server.close()
            assert server.violations == []

    run(work())


def test_an_environment_is_appended_to_names(tmp_path: Path) -> None:
    (tmp_path / "chanserv.yaml").write_text(host_configuration(node=", environment: staging"))
    host = Process("serve", folder=tmp_path)

    async def work() -> None:
        for pushed in (True, False):
            async with chanserv.connect(host.address, environment="staging", pushed_sources=pushed) as client:
                assert await client.fetch("echo", b"staged") == b"staged"

    try:
        run(work())
    finally:
        host.stop()


def test_unix_sockets(tmp_path: Path) -> None:
    (tmp_path / "chanserv.yaml").write_text(host_configuration('"unix:links.sock"'))
    host = Process("serve", folder=tmp_path)
    try:
        with chanserv.sync.connect(f"unix:{tmp_path}/links.sock") as client:
            assert client.fetch("echo", b"local") == b"local"
    finally:
        host.stop()


def test_tls_with_client_certificates(tmp_path: Path) -> None:
    subprocess.run(
        [str(command()), "certificates", "new", "certs", "--host", "localhost", "--client", "python"],
        cwd=tmp_path,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    tls = "{certificate: certs/localhost.pem, key: certs/localhost.key, client_ca: certs/ca.pem}"
    listen = '{address: "127.0.0.1:0", tls: %s}' % tls
    (tmp_path / "chanserv.yaml").write_text(host_configuration(listen))
    host = Process("serve", folder=tmp_path)
    ca, cert, key = (str(tmp_path / "certs" / name) for name in ("ca.pem", "python.pem", "python.key"))

    async def work() -> None:
        body = bytes(3_000_000)
        async with chanserv.connect(host.address, ca=ca, cert=cert, key=key, server_name="localhost") as client:
            assert await client.fetch("echo", body) == body
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(cert, key)
        async with chanserv.connect(host.address, tls=context, server_name="localhost") as client:
            assert await client.fetch("packed", body) == body
        for options, message in (
            (dict(ca=ca, server_name="localhost"), "certificate"),
            (dict(ca=ca, cert=cert, key=key, server_name="example.org"), "example.org"),
            (dict(tls=True, server_name="localhost"), "CERTIFICATE_VERIFY_FAILED"),
            ({}, "may require TLS"),
        ):
            started = time.monotonic()
            with pytest.raises(chanserv.JoinFailed, match=message):
                async with chanserv.connect(host.address, timeout=30, **options):
                    pass
            assert time.monotonic() - started < 30

    try:
        run(work())
    finally:
        host.stop()


def test_wrong_arguments() -> None:
    for address in ("host", "::1:5555", "host:0", "host:70000", ":1", "unix:", "host:١"):
        with pytest.raises(ValueError):
            parse_address(address)
    assert parse_address("[::1]:5555")[1:3] == ("::1", 5555)
    for options in (dict(cert="x"), dict(tls=False, ca="x"), dict(timeout=0)):
        with pytest.raises(ValueError):
            chanserv.connect(**options)
    client = chanserv.connect()
    for wrong in (dict(timeout=0), dict(idle_timeout=-1), dict(trace_parent="00-1")):
        with pytest.raises(ValueError):
            client.post("echo", **wrong)

    async def work() -> None:
        with pytest.raises(chanserv.Closed):
            await client.fetch("echo")

    run(work())
