"""Client of chanserv: posts requests to services, and streams the sources and frames of the answers.

    async with chanserv.connect("127.0.0.1:5555") as client:
        async with client.post("files", b"*.c") as sources:
            async for source in sources:
                async for frame in source:
                    ...

`chanserv.sync` has the same without asyncio.
"""

from ._identity import Limits
from ._sources import Source, Sources
from .client import Client, Posting, connect
from .errors import (
    AnswerTooLarge,
    ChanservError,
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    FrameError,
    JoinFailed,
    NoSources,
    NotAllowed,
    ProtocolError,
    RequestFailed,
    RequestRefused,
    ServiceBusy,
    ServiceNotFound,
    SourceFailed,
    Unavailable,
)

__version__ = "0.1.0"

__all__ = [
    "AnswerTooLarge",
    "ChanservError",
    "Client",
    "Closed",
    "ConnectionLost",
    "DeadlineExceeded",
    "FrameError",
    "JoinFailed",
    "Limits",
    "NoSources",
    "NotAllowed",
    "Posting",
    "ProtocolError",
    "RequestFailed",
    "RequestRefused",
    "ServiceBusy",
    "ServiceNotFound",
    "Source",
    "SourceFailed",
    "Sources",
    "Unavailable",
    "connect",
]
