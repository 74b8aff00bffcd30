"""One request and its sources (docs/protocol.md §5, §6). Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Deque, Dict, Optional, Union

from ._frames import FrameDecoder, decode_frame
from ._ops import FIN1, MAX_NAME, Grant
from ._stream import Stream
from .errors import ChanservError, Closed, FrameError, ProtocolError, SourceFailed

if TYPE_CHECKING:
    from ._link import Link


class End:
    """No frame or source will come any more."""


class Wait:
    """Nothing has arrived yet."""


END = End()
WAIT = Wait()


class SourceState:
    """One source: pushed, or named and dialled."""

    def __init__(self, request: Request, index: int, header: Optional[bytes], name: Optional[str]) -> None:
        self.request = request
        self.index = index
        self.header = header
        self.name = name
        self.stream: Optional[Stream] = None
        self.decoder = FrameDecoder()
        self.error: Optional[ChanservError] = None
        # Whether it is closed; whether all its frames were taken before.
        self.finished = False
        self.complete = False
        # Bytes of an incomplete header that count as buffered, because the consumer does not know the source yet.
        self.held = 0

    # A named source

    def dial(self, port: int) -> None:
        """Dials the name, which the host has announced at `port`."""
        link = self.request.link
        try:
            stream = link.dial(self.request.host, port)
        except ProtocolError as error:
            self.fail(error)
            return
        if self.finished:
            # The host keeps an announced source until it is dialled, so a source is given up with a DIAL.
            stream.close()
            return
        self.stream = stream
        stream.source = self

    # Bytes

    def receive(self) -> None:
        """Reads the header of a pushed source from what has arrived."""
        stream = self.stream
        if stream is None or self.header is not None or self.error is not None or self.finished:
            return
        if stream.buffered:
            data = stream.take()
            self.decoder.feed(data)
            self.held += len(data)
            stream.link.buffered += len(data)
            if self.decoder.next_length + 8 > stream.window:
                stream.return_credit()
        try:
            self.header = self.decoder.next()
        except FrameError as error:
            self.error = error
            stream.fail(error)
        if self.header is None and stream.ended:
            # The consumer takes the source and gets its error.
            self.header = b""
        if self.header is not None or self.error is not None:
            self._release()
            self.request.headless -= 1
            self.request.offer(self)

    def _release(self) -> None:
        if self.stream is not None:
            self.stream.link.buffered -= self.held
        self.held = 0

    def take_frame(self) -> Union[bytes, End, Wait]:
        """Returns the next frame, or raises the error of the source behind its last one."""
        while True:
            if self.error is not None:
                raise self.error
            if self.complete:
                return END
            if self.finished:
                raise Closed("the client closed the source before its end")
            try:
                frame = self.decoder.next()
                if frame is not None:
                    return decode_frame(frame)
            except FrameError as error:
                if self.stream is not None:
                    self.stream.fail(error)
                return self._fail(error)
            stream = self.stream
            if stream is None:
                return WAIT
            if stream.buffered:
                self.decoder.feed(stream.take())
                stream.return_credit(stream.window // 4)
                continue
            if stream.error is not None:
                return self._fail(self._explain(stream))
            if stream.fin2:
                if not self.decoder.is_empty:
                    return self._fail(FrameError("truncated frame: the source ended inside a frame"))
                self.complete = True
                self.close()
                return END
            # The host may wait for this credit before it sends more.
            stream.return_credit()
            return WAIT

    def _explain(self, stream: Stream) -> ChanservError:
        if stream.refusal is not None:
            return SourceFailed(
                f"the host dropped source {self.index} before the client dialled it ({stream.refusal}); "
                "take sources sooner, or raise chan_accept of the route"
            )
        assert stream.error is not None
        return stream.error

    def _fail(self, error: ChanservError) -> End:
        self.error = error
        self.close()
        raise error

    def fail(self, error: ChanservError) -> None:
        """Gives the source up because of a time limit of the client."""
        if self.error is None and not self.finished:
            self.error = error
            self.close()

    @property
    def is_open(self) -> bool:
        return self.stream is not None and self.stream.confirmed

    def accept(self) -> None:
        """The consumer has taken the source."""
        if self.stream is not None and self.stream.offered:
            self.stream.accept()
            self.request.unaccepted -= 1

    def close(self) -> None:
        """Frees the source at both ends."""
        if self.finished:
            return
        self.finished = True
        self.decoder = FrameDecoder()
        self._release()
        if self.header is None and self.error is None:
            self.request.headless -= 1
        if self.name is not None and self.stream is None:
            self.request.link.linger(self)
        if self.stream is not None:
            if self.stream.offered:
                self.request.unaccepted -= 1
            self.stream.close()
        self.request.sources.pop(self, None)
        self.request.link.changed(self)


class Request:
    """One request, until its last source has ended."""

    def __init__(self, link: Link, host: int, body: bytes, grant: Optional[Grant], suffix: str, limit: int) -> None:
        self.link = link
        self.host = host
        self.body = body
        self.grant = grant
        self.suffix = suffix
        # Maximum sources that are dialled or offered and that the consumer has not taken.
        self.limit = limit
        self.master: Optional[Stream] = None
        self.decoder = FrameDecoder()
        self.header: Optional[bytes] = None
        self.ready: Deque[SourceState] = deque()
        self.sources: Dict[SourceState, None] = {}
        self.next_index = 0
        self.unaccepted = 0
        # The pushed sources whose headers have not arrived. The end of the list may overtake a header.
        self.headless = 0
        self.pushed: Optional[bool] = None
        # The number of pushed sources that the host announced at the end, behind a router.
        self.expected = 0
        self.error: Optional[ChanservError] = None
        self.listed = False
        self.closed = False
        # Whether announcements that the host sent before the cancellation may still arrive.
        self.lingering = False

    # Sources

    def receive_source(self, stream: Stream) -> None:
        """Adds a pushed source; `Link` has checked its DIAL."""
        if self.pushed is False:
            self.fail(ProtocolError("the host mixes pushed and named sources"))
        self.pushed = True
        source = SourceState(self, self.next_index, None, None)
        self.next_index += 1
        self.unaccepted += 1
        self.headless += 1
        self.sources[source] = None
        source.stream = stream
        stream.source = source
        self.check_end()

    def offer(self, source: SourceState) -> None:
        if not self.closed:
            self.ready.append(source)
            self.link.changed(self)

    def pump(self) -> None:
        """Reads announcements from the master stream, and dials their names, up to the limit."""
        stream = self.master
        if self.lingering:
            self._give_up_announced()
        if stream is None or self.listed:
            return
        try:
            while len(self.ready) < self.limit:
                frame = self.decoder.next()
                if frame is None:
                    if not stream.buffered:
                        break
                    self.decoder.feed(stream.take())
                    stream.return_credit(stream.window // 4)
                elif self.header is None:
                    self.header = frame
                else:
                    self._announce(self.header, frame)
                    self.header = None
            else:
                return
        except ProtocolError as error:
            self.fail(error)
            return
        stream.return_credit()
        self.check_end()

    def _announce(self, header: bytes, name: bytes) -> None:
        try:
            text = name.decode("utf-8")
        except UnicodeDecodeError:
            text = ""
        if not 1 <= len(name) <= MAX_NAME or not text:
            raise ProtocolError("wrong announcement: the host announced a source without a valid name")
        if self.pushed:
            raise ProtocolError("the host mixes pushed and named sources")
        self.pushed = False
        source = SourceState(self, self.next_index, header, text + self.suffix)
        self.next_index += 1
        self.sources[source] = None
        self.link.await_name(source)
        self.offer(source)

    # Ends

    def check_end(self) -> None:
        """Finds whether the list of sources is complete."""
        stream = self.master
        if stream is None or self.listed or stream.buffered:
            return
        if stream.error is not None:
            # Bytes that came before the error stay valid, and an incomplete frame before it is ignored.
            self._end(stream.error)
        elif stream.fin2 and self.next_index >= self.expected:
            if not self.decoder.is_empty or self.header is not None:
                self._end(FrameError("truncated frame: the host ended the list of sources inside an announcement"))
            else:
                self._end(None)

    @property
    def is_missing(self) -> bool:
        """Whether the host has ended the list and pushed sources have not arrived (docs/protocol.md §6.4)."""
        return self.master is not None and self.master.fin2 and not self.listed and self.next_index < self.expected

    def _end(self, error: Optional[ChanservError]) -> None:
        self.listed = True
        if self.error is None:
            self.error = error
        if self.master is not None:
            self.master.close()
        self.link.release_grant(self)
        self.link.changed(self)

    def fail(self, error: ChanservError) -> None:
        """Fails the request at both ends. Sources that came before stay valid."""
        if self.error is None:
            self.error = error
        self.listed = True
        for source in list(self.sources):
            if source.header is None:
                source.close()
        if self.master is not None:
            self.master.fail(error)
        self.link.release_grant(self)
        self.link.changed(self)

    def close(self) -> None:
        """Cancels the request and all its sources, and frees them at the host."""
        if self.closed:
            return
        self.closed = True
        for source in list(self.sources):
            source.close()
        if self.master is not None:
            if self.listed or self.pushed or not self.master.opened or self.master.closed:
                self.master.close()
            else:
                self.lingering = True
                self.master.half_close()
                self.link.linger(self)
                self._give_up_announced()
        self.ready.clear()
        if not self.listed:
            self.error = Closed("the client closed the request before its last source")
        self.listed = True
        self.link.changed(self)
        self.link.release_grant(self)

    def _give_up_announced(self) -> None:
        """Gives up the named sources that the host announced before it received the cancellation.

        A host that has announced all its sources takes the end of the master stream for its normal end, and would keep
        the sources until its accept timeout.
        """
        stream = self.master
        assert stream is not None
        if stream.buffered:
            self.decoder.feed(stream.take())
        try:
            while (frame := self.decoder.next()) is not None:
                if self.header is None:
                    self.header = frame
                    continue
                self.header = None
                source = SourceState(self, 0, b"", frame.decode("utf-8") + self.suffix)
                source.finished = True
                self.link.await_name(source)
        except (FrameError, UnicodeDecodeError):
            self.end_lingering()
            return
        if stream.ended or stream.closed:
            self.end_lingering()

    def end_lingering(self) -> None:
        self.lingering = False
        self.decoder = FrameDecoder()
        if self.master is not None and not self.master.closed:
            if self.master.error is None:
                self.master.send(FIN1)
            self.link.forget(self.master)
        self.link.end_lingering(self)

    def take_source(self) -> Union[SourceState, End, Wait]:
        """Returns the next source, or raises the error of the request behind its last one."""
        if self.ready:
            source = self.ready.popleft()
            source.accept()
            self.pump()
            return source
        if self.listed and not self.headless:
            if self.error is not None:
                raise self.error
            return END
        return WAIT

    def lose(self, error: ChanservError) -> None:
        """The link or the host is lost."""
        if not self.listed:
            self._end(error)
        for source in list(self.sources):
            if source.stream is None:
                source.fail(error)
