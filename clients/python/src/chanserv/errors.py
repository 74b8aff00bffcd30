"""The errors of the client. Each message tells what failed, why, and what to do if the caller can do something."""

from __future__ import annotations

import re
from typing import Optional


class ChanservError(Exception):
    """The base of all errors of this package."""


class Unavailable(ChanservError):
    """No host has taken the request, so it may be sent again."""


class JoinFailed(Unavailable):
    """No node could be joined."""


class ServiceNotFound(Unavailable):
    """No node offers the address."""


class RequestRefused(Unavailable):
    """The hosts that offer the address refused the request before they processed any of it."""


class ServiceBusy(RequestRefused):
    """The hosts that offer the address take no requests at the moment, or this caller has reached its quota."""

    @property
    def retry_after(self) -> Optional[float]:
        """The seconds after which the host takes requests again, if it told them."""
        found = re.search(r"retry after (\d{1,9}) ms", str(self))
        return None if found is None else int(found.group(1)) / 1000


class NotAllowed(ChanservError):
    """The access rules of the host do not let this client use the service."""


class ConnectionLost(ChanservError):
    """The link to the host broke, or the client was closed. The host may have processed the request."""


class RequestFailed(ChanservError):
    """The request failed. The message is that of the service. Sources that came before stay valid."""


class SourceFailed(ChanservError):
    """One source failed. The message is that of the service."""


class Closed(ChanservError):
    """The program closed the request or the source before its end, and reads on."""


class DeadlineExceeded(ChanservError, TimeoutError):
    """The deadline of the request, or a time limit of the client, has passed."""


class ProtocolError(ChanservError):
    """The peer broke the protocol of docs/protocol.md."""


class FrameError(ProtocolError):
    """A frame is malformed. The message begins with one of the codes of docs/protocol.md §8."""


class NoSources(ChanservError):
    """`fetch` received an answer without sources."""


class AnswerTooLarge(ChanservError):
    """`fetch` received more bytes than its limit."""


def error_of_text(text: str, kind: type[ChanservError]) -> ChanservError:
    """Returns the error for the text of an ERR: the class of its code if it begins with one, else `kind`."""
    code = text.split(":", 1)[0]
    if code == "deadline exceeded":
        return DeadlineExceeded(text)
    if code == "busy":
        return ServiceBusy(text)
    if code == "not allowed":
        return NotAllowed(text)
    return kind(text or "the host failed the stream without a message; its log may have the reason")
