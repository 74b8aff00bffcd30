"""Addresses of nodes, and TLS."""

from __future__ import annotations

import ssl
from typing import NamedTuple, Optional, Union

TLS = Union[bool, ssl.SSLContext, None]


class NodeAddress(NamedTuple):
    """The address of a node: host and port, or the path of a Unix socket."""

    text: str
    host: str = ""
    port: int = 0
    path: Optional[str] = None


def parse_address(text: str) -> NodeAddress:
    """Parses `host:port`, `[ipv6]:port` or `unix:path`. Raises `ValueError`."""
    if text.startswith("unix:"):
        if len(text) == 5:
            raise ValueError("the address 'unix:' has no path; write unix:PATH")
        return NodeAddress(text, path=text[5:])
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"write the IPv6 address {text!r} in brackets: [ADDRESS]:PORT")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65_536:
        raise ValueError(f"{text!r} is no address of a node; write HOST:PORT or unix:PATH")
    return NodeAddress(text, host=host, port=int(port))


def make_context(
    tls: TLS, ca: Optional[str], cert: Optional[str], key: Optional[str], server_name: Optional[str]
) -> Optional[ssl.SSLContext]:
    """Returns the TLS context of the options of `connect`, or `None` without TLS."""
    files = ca is not None or cert is not None or key is not None
    if isinstance(tls, ssl.SSLContext):
        if files:
            raise ValueError("give either an SSLContext or ca, cert and key")
        return tls
    if tls is False and (files or server_name is not None):
        raise ValueError("tls=False contradicts the other options of TLS")
    if not tls and not files and server_name is None:
        return None
    if (cert is None) != (key is None):
        raise ValueError("cert and key belong together; give both")
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["chanserv"])
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context
