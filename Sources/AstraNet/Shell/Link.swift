internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// One connection to another node, as seen from any thread: what goes out is collected here, and the event loop is told
/// once for each change from idle to busy. Everything else of a link belongs to its event loop (``LinkHandler``).
final class Link: Sendable {
    let id: ServiceRegistry.LinkID
    let channel: any Channel
    var eventLoop: any EventLoop { channel.eventLoop }

    private let outbound = NIOLockedValueBox(Outbound())
    /// `nil` once the connection is gone. Event loop only.
    let handler: NIOLoopBoundBox<LinkHandler?>

    /// What other threads want sent.
    struct Outbound {
        /// Whole ops that go ahead of all DATA.
        var control = ByteBuffer()
        /// Dialled streams whose DIAL must go out.
        var opening: [Stream] = []
        /// Streams with bytes, credit or an ending to send.
        var dirty: [Stream] = []
        /// The event loop has been told.
        var isScheduled = false
        var isClosed = false

        var isEmpty: Bool { control.readableBytes == 0 && opening.isEmpty && dirty.isEmpty }
    }

    /// Closes the connection once all that was written to closed streams is out, at the latest at the deadline.
    func closeWhenFlushed(deadline: NIODeadline) {
        eventLoop.execute { self.handler.value?.closeWhenFlushed(deadline: deadline) }
    }

    init(id: ServiceRegistry.LinkID, channel: any Channel) {
        self.id = id
        self.channel = channel
        handler = NIOLoopBoundBox.makeEmptyBox(valueType: LinkHandler.self, eventLoop: channel.eventLoop)
    }

    /// Queues ops ahead of all DATA.
    func sendControl(_ write: (inout ByteBuffer) -> Void) {
        schedule { write(&$0.control) }
    }

    /// Sends the DIAL of a stream and lets the link know it.
    ///
    /// - Throws: ``AstraNetError`` with code `linkLost` where the link is gone.
    func open(_ stream: Stream) throws(AstraNetError) {
        let isOpen = schedule { $0.opening.append(stream) }
        guard isOpen else { throw AstraNetError(.linkLost, "the link to \(stream.remoteAddress.host) is gone") }
    }

    /// A stream has something to send; called once until the event loop has looked at it.
    func markDirty(_ stream: Stream) {
        schedule { $0.dirty.append(stream) }
    }

    @discardableResult
    private func schedule(_ change: (inout Outbound) -> Void) -> Bool {
        let (isOpen, mustTell) = outbound.withLockedValue { outbound -> (Bool, Bool) in
            guard !outbound.isClosed else { return (false, false) }
            change(&outbound)
            guard !outbound.isScheduled else { return (true, false) }
            outbound.isScheduled = true
            return (true, true)
        }
        // In the event loop this comes after the current read, so that all its answers leave together.
        if mustTell { eventLoop.execute { self.handler.value?.flush() } }
        return isOpen
    }

    /// Takes all there is to send. Event loop only.
    func takeOutbound() -> Outbound {
        outbound.withLockedValue { outbound in
            var taken = Outbound()
            swap(&taken, &outbound)
            return taken
        }
    }

    /// Nothing waits to be taken.
    var isOutboundEmpty: Bool { outbound.withLockedValue { $0.isEmpty } }

    /// Refuses whatever comes from now on, and returns what was not sent. Event loop only.
    func closeOutbound() -> Outbound {
        outbound.withLockedValue { outbound in
            var taken = Outbound()
            taken.isClosed = true
            swap(&taken, &outbound)
            return taken
        }
    }
}
