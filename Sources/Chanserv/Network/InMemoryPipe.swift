import DequeModule
import NIOConcurrencyHelpers
import NIOCore

/// One direction of a connection: bytes under way, no more than the window, and bytes that wait for their turn.
final class InMemoryPipe: Sendable {
    /// How an end ends it.
    enum End: Sendable, Hashable {
        case closed
        case failed(String)
        case lost
    }

    private struct Inside {
        /// Under way: what the reader takes next. At most the window.
        var arrived = ByteBuffer()
        /// What the writer has queued beyond that.
        var queued: Deque<ByteBuffer> = []
        /// The writer's end: the reader learns of it behind the bytes.
        var end: End?
        /// The reader's end: the writer learns of it at once.
        var abandoned: End?
        /// Whether that left bytes unsent.
        var dropped = false

        /// Sends on what the window allows.
        mutating func advance(_ window: Int) {
            while arrived.readableBytes < window, var next = queued.popFirst() {
                let part = min(window - arrived.readableBytes, next.readableBytes)
                if var bytes = next.readSlice(length: part) { arrived.writeBuffer(&bytes) }
                if next.readableBytes > 0 { queued.prepend(next) }
            }
        }
    }

    private let window: Int
    private let inside = NIOLockedValueBox(Inside())
    private let readable = Event()
    private let writable = Event()

    init(window: Int) {
        self.window = window
    }

    func read(atMost limit: Int = .max, deadline: ContinuousClock.Instant?) async throws -> ByteBuffer? {
        while true {
            try Task.checkCancellation()
            enum Step {
                case bytes(ByteBuffer)
                case end
                case wait
            }
            let step = try inside.withLockedValue { inside -> Step in
                if inside.abandoned == .lost { throw ConnectionError(.connectionLost, "the network broke") }
                if inside.abandoned != nil { throw ConnectionError(.closed, "this end closed the connection") }
                if inside.arrived.readableBytes > 0 {
                    let count = min(limit, inside.arrived.readableBytes)
                    guard let bytes = inside.arrived.readSlice(length: count) else { return .wait }
                    if inside.arrived.readableBytes == 0 { inside.arrived = ByteBuffer() }
                    inside.advance(window)
                    return .bytes(bytes)
                }
                switch inside.end {
                case nil: return .wait
                case .closed: return .end
                case .failed(let message): throw ConnectionError(.failedByPeer, message)
                case .lost: throw ConnectionError(.connectionLost, "the network broke")
                }
            }
            switch step {
            case .bytes(let bytes):
                writable.signal()
                return bytes
            case .end: return nil
            case .wait:
                switch await readable.wait(deadline: deadline) {
                case .signalled: continue
                case .expired: throw ConnectionError(.deadlineExceeded, "nothing came to read")
                case .cancelled: throw CancellationError()
                }
            }
        }
    }

    func write(_ bytes: ByteBuffer, deadline: ContinuousClock.Instant?) async throws {
        try inside.withLockedValue { inside in
            try Self.check(inside)
            if bytes.readableBytes > 0 { inside.queued.append(bytes) }
            inside.advance(window)
        }
        readable.signal()
        while true {
            let waits = try inside.withLockedValue { inside in
                // What the reader has taken before it closed is written well.
                if inside.queued.isEmpty && !inside.dropped { return false }
                try Self.check(inside)
                return true
            }
            guard waits else { return }
            switch await writable.wait(deadline: deadline) {
            case .signalled: continue
            case .expired: throw ConnectionError(.deadlineExceeded, "the peer does not read")
            case .cancelled: throw CancellationError()
            }
        }
    }

    /// The writer has no more; the reader still gets what is queued.
    func finish(_ end: End) {
        inside.withLockedValue { if $0.end == nil { $0.end = end } }
        readable.signal()
        writable.signal()
    }

    /// The writer takes back what is not under way yet.
    func dropQueued() {
        inside.withLockedValue { inside in
            inside.dropped = inside.dropped || !inside.queued.isEmpty
            inside.queued = []
        }
    }

    /// The reader wants no more.
    func abandon(_ end: End) {
        inside.withLockedValue { inside in
            if inside.abandoned == nil { inside.abandoned = end }
            inside.dropped = inside.dropped || !inside.queued.isEmpty
            inside.arrived = ByteBuffer()
            inside.queued = []
        }
        readable.signal()
        writable.signal()
    }

    func lose() {
        finish(.lost)
        abandon(.lost)
    }

    /// Whether neither end can do anything with it.
    var isOver: Bool { inside.withLockedValue { $0.end != nil && $0.abandoned != nil } }

    private static func check(_ inside: Inside) throws {
        switch inside.end {
        case nil: break
        case .lost: throw ConnectionError(.connectionLost, "the network broke")
        case .closed, .failed: throw ConnectionError(.closed, "this end closed the connection")
        }
        switch inside.abandoned {
        case nil: return
        case .closed: throw ConnectionError(.closedByPeer, "the peer wants no more")
        case .failed(let message): throw ConnectionError(.failedByPeer, message)
        case .lost: throw ConnectionError(.connectionLost, "the network broke")
        }
    }
}
