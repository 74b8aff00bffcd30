internal import DequeModule
internal import NIOCore

/// What only a stream has on which something happens: bytes to be read or sent, and who waits.
///
/// A stream at rest would hold three times its memory in empty fields, and most streams of a busy node are at rest.
extension Stream {
    struct Work {
        var inbox = ByteBuffer()
        var outbox = Deque<ByteBuffer>()
        var opener: Waiter<Void>?
        var reader: Waiter<ByteBuffer?>?
        /// What the reader wants filled in one go.
        var filling: Filling?
        var filler: Waiter<Void>?
        var writer: Waiter<Void>?
        var onPeerGone: (@Sendable () -> Void)?

        fileprivate var isDone: Bool {
            outbox.isEmpty && reader == nil && writer == nil && onPeerGone == nil && opener == nil && filling == nil
                && filler == nil && inbox.readableBytes == 0
        }
    }

    /// Where the work lies. One stream's own, under its lock: the compiler's checks at run time would find nothing, and cost more
    /// than the rest of an access.
    final class Desk {
        @exclusivity(unchecked) var work = Work()
    }
}

extension Stream.Storage {
    /// There is work, or about to be.
    mutating func atDesk() -> Stream.Desk {
        if let desk { return desk }
        let new = Stream.Desk()
        desk = new
        return new
    }

    /// The work may be done.
    mutating func leaveDesk() {
        if let desk, desk.work.isDone { self.desk = nil }
    }
}
