from __future__ import annotations

from pathlib import Path
from typing import Iterator, NamedTuple

import pytest

from support import Process, host_configuration


class Mesh(NamedTuple):
    """A host, and a router in front of it."""

    host: Process
    router: Process
    folder: Path

    def address(self, way: str) -> str:
        return {"direct": self.host, "router": self.router}[way].address


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("host")
    (folder / "chanserv.yaml").write_text(host_configuration())
    host = Process("serve", folder=folder)
    try:
        router = Process("router", "--listen", "127.0.0.1:0", "--join", host.address, folder=folder)
        try:
            router.await_line("joined")
            yield Mesh(host, router, folder)
        finally:
            router.stop()
    finally:
        host.stop()
