import AstraNet
import DequeModule
import NIOCore

/// The end of a stream at a Go-like node. It waits for SYN_ACK before it writes, returns credit after each read and
/// closes with FIN2.
///
/// `@unchecked Sendable`: see ``World``.
final class GoLikeStream: SimulatedStream, @unchecked Sendable {
    struct Failed: Error { var reason: String }

    let local: Address
    let remote: Address
    private let link: GoLikeLink
    private let world: World
    private let changed: Signal
    private var unread: Deque<ByteBuffer> = []
    private var outstanding = 0
    private var inFlight = 0
    private var window = 65_536
    private var mayWrite = false
    private var isFinished = false
    private var isStopped = false
    private var isClosed = false
    private var failure: String?
    /// Whether the stream is open: the SYN_ACK or the ACK has arrived.
    var isOpen = false

    init(local: Address, remote: Address, link: GoLikeLink) {
        self.local = local
        self.remote = remote
        self.link = link
        world = link.connection.world
        changed = Signal(world)
    }

    private func send(_ op: WireOp) {
        if link.isOpen { link.send(op) }
    }

    var isPeerClosed: Bool { isStopped || isClosed || failure != nil }

    var caller: SimulatedCaller? { nil }

    func opened(deadline: UInt64) async throws {
        while !isOpen {
            if let failure { throw Failed(reason: failure) }
            try await changed.wait(deadline: deadline)
        }
    }

    func receive(deadline: UInt64) async throws -> ByteBuffer? {
        while true {
            if let bytes = unread.popFirst() {
                outstanding -= bytes.readableBytes
                send(WireOp(.rewind, to: remote, from: local, number: UInt32(bytes.readableBytes)))
                return bytes
            }
            if let failure { throw Failed(reason: failure) }
            if isFinished || isClosed { return nil }
            try await changed.wait(deadline: deadline)
        }
    }

    func send(_ bytes: ByteBuffer, deadline: UInt64) async throws {
        var rest = bytes
        while rest.readableBytes > 0 {
            if let failure { throw Failed(reason: failure) }
            if isStopped || isClosed { throw Failed(reason: "the stream was closed, or the peer sent FIN1") }
            let count = mayWrite ? max(0, min(rest.readableBytes, window - inFlight, 65_536)) : 0
            guard count > 0 else {
                try await changed.wait(deadline: deadline)
                continue
            }
            inFlight += count
            send(WireOp(.data, to: remote, from: local, payload: rest.readSlice(length: count)!))
        }
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        unread = []
        changed.fire()
        guard failure == nil else { return }
        send(WireOp(.fin2, to: remote, from: local))
    }

    // MARK: - The link's side

    func isOver(_ other: GoLikeLink) -> Bool { link === other }

    func confirmed() {
        mayWrite = true
        isOpen = true
        changed.fire()
    }

    func fail(_ reason: String) {
        if failure == nil { failure = reason }
        changed.fire()
    }

    func take(_ op: WireOp) {
        switch op.command {
        case .data:
            guard op.payload.readableBytes > 0 else { return }
            if isFinished { world.broken("a Go-like node received DATA after FIN2: \(op)") }
            outstanding += op.payload.readableBytes
            if outstanding > 65_536 {
                world.broken("a Go-like node received \(outstanding) bytes, more than its window: \(op)")
            }
            // Go keeps a closed stream for 10 s and drops its bytes.
            if !isClosed { unread.append(op.payload) }
        case .rewind:
            inFlight -= Int(op.number ?? 0)
            if inFlight < 0 { world.broken("a Go-like node received credit for more than it sent: \(op)") }
        case .windowSize: window = Int(op.number ?? 0)
        case .fin1: isStopped = true
        case .fin2: isFinished = true
        case .err: if failure == nil { failure = "ERR \(op.text)" }
        case .forceClosed: if failure == nil { failure = "FORCE_CLOSED received" }
        default: break
        }
        changed.fire()
    }
}
