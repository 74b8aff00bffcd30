import NIOConcurrencyHelpers
import NIOCore

/// One end of a connection of an ``InMemoryMultiplexer``.
struct InMemoryConnection: Connection {
    let pair: InMemoryPair
    private let side: InMemoryPair.Side

    init(_ pair: InMemoryPair, _ side: InMemoryPair.Side) {
        self.pair = pair
        self.side = side
    }

    var addresses: ConnectionAddresses {
        ConnectionAddresses(
            local: "memory:\(pair.port + side.rawValue)", remote: "memory:\(pair.port + side.other.rawValue)",
            network: "memory")
    }

    func read(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer? {
        try await pair.pipe(to: side).read(deadline: deadline)
    }

    func read(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?
    ) async throws -> Int {
        var missing = count
        while missing > 0, let bytes = try await pair.pipe(to: side).read(atMost: missing, deadline: deadline) {
            missing -= bytes.readableBytes
            buffer.writeImmutableBuffer(bytes)
        }
        return count - missing
    }

    func write(_ bytes: ByteBuffer, deadline: ContinuousClock.Instant?) async throws {
        try await pair.pipe(to: side.other).write(bytes, deadline: deadline)
    }

    func close() {
        pair.end(side, .closed)
    }

    func fail(_ message: String) {
        pair.end(side, .failed(String(decoding: message.utf8.prefix(1024), as: UTF8.self)))
    }

    func abort(_ message: String) {
        pair.pipe(to: side.other).dropQueued()
        fail(message)
    }

    func onPeerClosed(_ body: @escaping @Sendable () -> Void) {
        pair.onPeerClosed(of: side, body)
    }
}

/// Both ends of a connection and the pipes between them.
final class InMemoryPair: Sendable {
    enum Side: Int, Sendable {
        case listener = 0
        case dialler = 1

        var other: Side { self == .listener ? .dialler : .listener }
    }

    private struct End {
        var ended = false
        var onPeerClosed: (@Sendable () -> Void)?
    }

    let port: Int
    private let toListener: InMemoryPipe
    private let toDialler: InMemoryPipe
    private let ends = NIOLockedValueBox((listener: End(), dialler: End()))
    private let over: @Sendable (InMemoryPair) -> Void

    init(window: Int, port: Int, over: @escaping @Sendable (InMemoryPair) -> Void) {
        self.port = port
        self.over = over
        toListener = InMemoryPipe(window: window)
        toDialler = InMemoryPipe(window: window)
    }

    func pipe(to side: Side) -> InMemoryPipe { side == .listener ? toListener : toDialler }

    /// Ends the connection at `side`, in both directions.
    func end(_ side: Side, _ end: InMemoryPipe.End) {
        let (body, both) =
            ends.withLockedValue { ends -> ((@Sendable () -> Void)?, Bool)? in
                let own = side == .listener ? \(listener: End, dialler: End).listener : \.dialler
                let others = side == .listener ? \(listener: End, dialler: End).dialler : \.listener
                guard !ends[keyPath: own].ended else { return nil }
                ends[keyPath: own] = End(ended: true, onPeerClosed: nil)
                return (ends[keyPath: others].onPeerClosed.take(), ends[keyPath: others].ended)
            } ?? (nil, false)
        pipe(to: side.other).finish(end)
        pipe(to: side).abandon(end)
        body?()
        if both { over(self) }
    }

    /// Ends the connection at both sides as if the network had broken.
    func lose() {
        let bodies = ends.withLockedValue { ends in
            defer { ends = (End(ended: ends.listener.ended), End(ended: ends.dialler.ended)) }
            return [ends.listener.onPeerClosed, ends.dialler.onPeerClosed]
        }
        for pipe in [toListener, toDialler] { pipe.lose() }
        for body in bodies { body?() }
        over(self)
    }

    func onPeerClosed(of side: Side, _ body: @escaping @Sendable () -> Void) {
        let isLost = pipe(to: side).isOver
        let now = ends.withLockedValue { ends -> Bool in
            let (own, other) = side == .listener ? (ends.listener, ends.dialler) : (ends.dialler, ends.listener)
            if own.ended { return false }
            if other.ended || isLost { return true }
            if side == .listener { ends.listener.onPeerClosed = body } else { ends.dialler.onPeerClosed = body }
            return false
        }
        if now { body() }
    }
}
