import DequeModule
import NIOConcurrencyHelpers
import NIOCore

/// The two ends of a connection inside one process, and the bytes between them.
///
/// It behaves as an AstraNet stream does. Each direction has a bounded window. Ends and failures arrive after the bytes
/// that were sent before them. Events are reported one after the other.
final class InMemoryPair: Sendable {
    enum Side: Int, Sendable {
        case dialler
        case listener

        var other: Side { self == .dialler ? .listener : .dialler }
    }

    /// How one side ended the connection.
    enum End: Sendable, Hashable {
        case closed
        case failed(String)
    }

    /// The bytes in one direction.
    fileprivate struct Direction {
        /// Bytes that the reader can take. At most the window.
        var arrived = ByteBuffer()
        /// Bytes that do not fit into the window yet.
        var queued = Deque<ByteBuffer>()
        var queuedBytes = 0
        /// The writer's end. The reader sees it after the bytes.
        var end: End?
        /// A write found no room, so the writer is notified when there is.
        var reportsRoom = false

        mutating func advance(_ window: Int) {
            while arrived.readableBytes < window, var next = queued.popFirst() {
                let part = min(window - arrived.readableBytes, next.readableBytes)
                if var bytes = next.readSlice(length: part) { arrived.writeBuffer(&bytes) }
                queuedBytes -= part
                if next.readableBytes > 0 { queued.prepend(next) }
            }
        }
    }

    fileprivate struct Inside {
        /// Indexed by the writing side.
        var directions = [Direction(), Direction()]
        var delegates: [(any ConnectionDelegate)?] = [nil, nil]
        var ends: [End?] = [nil, nil]
        var isAnswered = false
        var isLost = false
        var refusal: String?
        var context = RequestContext()
        var isQueued = [false, false]
        var waiters: [[Event]] = [[], []]
    }

    private let window: Int
    private let network: InMemoryTurns
    private let port: Int
    private let over: @Sendable (InMemoryPair) -> Void
    private let inside: NIOLockedValueBox<Inside>

    /// - Parameter over: called when both sides have ended the connection.
    init(
        window: Int, port: Int, context: RequestContext, network: InMemoryTurns,
        over: @escaping @Sendable (InMemoryPair) -> Void
    ) {
        self.window = window
        self.port = port
        self.network = network
        self.over = over
        inside = NIOLockedValueBox(Inside(context: context))
    }

    func addresses(of side: Side) -> ConnectionAddresses {
        let own = port + side.rawValue
        let other = port + side.other.rawValue
        return ConnectionAddresses(local: "memory:\(own)", remote: "memory:\(other)", network: "memory")
    }

    func takeContext() -> RequestContext {
        inside.withLockedValue { inside in
            defer { inside.context = RequestContext() }
            return inside.context
        }
    }

    // MARK: - Events

    func setDelegate(_ delegate: (any ConnectionDelegate)?, of side: Side) {
        inside.withLockedValue { inside in
            guard inside.ends[side.rawValue] == nil else { return }
            inside.delegates[side.rawValue] = delegate
        }
    }

    /// Reports an event to `side`.
    func changed(_ side: Side) {
        let (isFirst, waiters) = inside.withLockedValue { inside -> (Bool, [Event]) in
            let waiters = inside.waiters[side.rawValue]
            inside.waiters[side.rawValue] = []
            guard !inside.isQueued[side.rawValue] else { return (false, waiters) }
            inside.isQueued[side.rawValue] = true
            return (true, waiters)
        }
        for waiter in waiters { waiter.signal() }
        if isFirst { network.run { self.callDelegate(side) } }
    }

    func run(_ body: @escaping @Sendable () -> Void) { network.run(body) }

    private func callDelegate(_ side: Side) {
        let delegate = inside.withLockedValue { inside in
            inside.isQueued[side.rawValue] = false
            return inside.delegates[side.rawValue]
        }
        delegate?.connectionChanged()
    }

    /// Waits for an event of `side`.
    ///
    /// - Parameter isReady: called under the lock. If it returns `true`, there is no wait.
    nonisolated(nonsending) private func wait(
        _ side: Side, deadline: ContinuousClock.Instant?, _ isReady: (borrowing Inside) -> Bool
    ) async throws {
        let event = Event()
        let waits = inside.withLockedValue { inside in
            if isReady(inside) { return false }
            inside.waiters[side.rawValue].append(event)
            return true
        }
        guard waits else { return }
        switch await event.wait(deadline: deadline) {
        case .signalled: return
        case .expired: throw ConnectionError(.deadlineExceeded, "nothing happened in time")
        case .cancelled: throw CancellationError()
        }
    }

    func accept() {
        inside.withLockedValue { $0.isAnswered = true }
        changed(.dialler)
    }

    /// Ends a connection that the listener does not accept.
    func refuse(_ message: String) {
        inside.withLockedValue { inside in
            inside.refusal = message
            inside.isAnswered = true
        }
        end(.listener, .failed(message))
    }

    var refusal: String? { inside.withLockedValue { $0.refusal } }

    var isAnswered: Bool { inside.withLockedValue { $0.isAnswered || $0.isLost } }

    func isPeerGone(of side: Side) -> Bool {
        inside.withLockedValue { $0.isLost || $0.ends[side.other.rawValue] != nil }
    }

    // MARK: - Bytes

    func take(_ side: Side, atMost limit: Int = .max) -> ReceivedBytes {
        let (received, madeRoom) = inside.withLockedValue { inside -> (ReceivedBytes, Bool) in
            let from = side.other.rawValue
            if inside.ends[side.rawValue] != nil {
                return (.failed(ConnectionError(.closed, "this end closed the connection")), false)
            }
            if inside.directions[from].arrived.readableBytes > 0 {
                let count = min(limit, inside.directions[from].arrived.readableBytes)
                guard let bytes = inside.directions[from].arrived.readSlice(length: count) else {
                    return (.nothing, false)
                }
                if inside.directions[from].arrived.readableBytes == 0 {
                    inside.directions[from].arrived = ByteBuffer()
                }
                inside.directions[from].advance(window)
                let reports = inside.directions[from].reportsRoom && inside.directions[from].queuedBytes == 0
                if reports { inside.directions[from].reportsRoom = false }
                return (.bytes(bytes), reports)
            }
            if inside.isLost { return (.failed(ConnectionError(.connectionLost, "the network broke")), false) }
            switch inside.directions[from].end {
            case nil: return (.nothing, false)
            case .closed: return (.finished, false)
            case .failed(let message): return (.failed(ConnectionError(.failedByPeer, message)), false)
            }
        }
        if madeRoom { changed(side.other) }
        return received
    }

    func write(_ bytes: ByteBuffer, from side: Side) throws(ConnectionError) -> Bool {
        let result = inside.withLockedValue { inside -> Result<(hasRoom: Bool, wakesReader: Bool), ConnectionError> in
            if inside.ends[side.rawValue] != nil {
                return .failure(ConnectionError(.closed, "this end closed the connection"))
            }
            if inside.isLost { return .failure(ConnectionError(.connectionLost, "the network broke")) }
            switch inside.ends[side.other.rawValue] {
            case nil: break
            case .closed: return .failure(ConnectionError(.closedByPeer, "the peer reads no more"))
            case .failed(let message): return .failure(ConnectionError(.failedByPeer, message))
            }
            var direction = inside.directions[side.rawValue]
            let hadNone = direction.arrived.readableBytes == 0
            if bytes.readableBytes > 0 {
                direction.queued.append(bytes)
                direction.queuedBytes += bytes.readableBytes
            }
            direction.advance(window)
            let hasRoom = direction.queuedBytes == 0
            if !hasRoom { direction.reportsRoom = true }
            inside.directions[side.rawValue] = direction
            return .success((hasRoom, hadNone && direction.arrived.readableBytes > 0))
        }
        let (hasRoom, wakesReader) = try result.get()
        if wakesReader { changed(side.other) }
        return hasRoom
    }

    nonisolated(nonsending) func read(
        _ side: Side, atMost limit: Int = .max, deadline: ContinuousClock.Instant?
    ) async throws -> ByteBuffer? {
        while true {
            try Task.checkCancellation()
            switch take(side, atMost: limit) {
            case .bytes(let bytes): return bytes
            case .finished: return nil
            case .failed(let error): throw error
            case .nothing: break
            }
            do {
                try await wait(side, deadline: deadline) { $0.isReadable(by: side) }
            } catch let error as ConnectionError where error.code == .deadlineExceeded {
                throw ConnectionError(.deadlineExceeded, "no bytes arrived")
            }
        }
    }

    nonisolated(nonsending) func waitForRoom(_ side: Side, deadline: ContinuousClock.Instant?) async throws {
        while try !write(ByteBuffer(), from: side) {
            do {
                try await wait(side, deadline: deadline) { $0.isWritable(by: side) }
            } catch let error as ConnectionError where error.code == .deadlineExceeded {
                throw ConnectionError(.deadlineExceeded, "the peer does not read")
            }
        }
    }

    nonisolated(nonsending) func waitForAnswer(deadline: ContinuousClock.Instant) async throws {
        while !isAnswered { try await wait(.dialler, deadline: deadline) { $0.isAnswered || $0.isLost } }
    }

    // MARK: - Ending

    func end(_ side: Side, _ end: End, dropsQueued: Bool = false) {
        var delegate: (any ConnectionDelegate)?
        let (isFirst, isOver) = inside.withLockedValue { inside -> (Bool, Bool) in
            guard inside.ends[side.rawValue] == nil else { return (false, false) }
            inside.ends[side.rawValue] = end
            swap(&delegate, &inside.delegates[side.rawValue])
            if dropsQueued {
                inside.directions[side.rawValue].queued = []
                inside.directions[side.rawValue].queuedBytes = 0
            }
            inside.directions[side.rawValue].end = end
            // This side reads no more, so bytes from the peer are dropped.
            inside.directions[side.other.rawValue].arrived = ByteBuffer()
            inside.directions[side.other.rawValue].queued = []
            inside.directions[side.other.rawValue].queuedBytes = 0
            return (true, inside.ends[side.other.rawValue] != nil || inside.isLost)
        }
        withExtendedLifetime(delegate) {}
        guard isFirst else { return }
        changed(side.other)
        changed(side)
        if isOver { over(self) }
    }

    /// Ends the connection at both ends with `connectionLost`.
    func lose() {
        inside.withLockedValue { inside in
            inside.isLost = true
            for side in [0, 1] {
                inside.directions[side].queued = []
                inside.directions[side].queuedBytes = 0
            }
        }
        changed(.dialler)
        changed(.listener)
        over(self)
    }
}

extension InMemoryPair.Inside {
    fileprivate func isReadable(by side: InMemoryPair.Side) -> Bool {
        let from = directions[side.other.rawValue]
        return from.arrived.readableBytes > 0 || from.end != nil || isLost || ends[side.rawValue] != nil
    }

    fileprivate func isWritable(by side: InMemoryPair.Side) -> Bool {
        directions[side.rawValue].queuedBytes == 0 || isLost || ends[0] != nil || ends[1] != nil
    }
}

/// One end of a connection inside one process.
final class InMemoryConnection: Connection {
    let pair: InMemoryPair
    private let side: InMemoryPair.Side

    init(_ pair: InMemoryPair, _ side: InMemoryPair.Side) {
        self.pair = pair
        self.side = side
    }

    var addresses: ConnectionAddresses { pair.addresses(of: side) }
    var peerDescription: String { addresses.remote }
    var progress: ConnectionProgress { ConnectionProgress(isPeerGone: pair.isPeerGone(of: side)) }
    var isAnswered: Bool { pair.isAnswered }
    // Sources are always dialled by name here.
    var expectsPush: Bool { false }
    var pushWindow: Int? { nil }

    func takeContext() -> RequestContext { pair.takeContext() }
    func setDelegate(_ delegate: (any ConnectionDelegate)?) { pair.setDelegate(delegate, of: side) }
    func callDelegateSoon() { pair.changed(side) }
    // Events are delivered on the threads of their callers.
    var isOnNetworkThread: Bool { false }
    func runSoon(_ body: @escaping @Sendable () -> Void) { pair.run(body) }
    func take() -> ReceivedBytes { pair.take(side) }
    func write(_ bytes: ByteBuffer) throws(ConnectionError) -> Bool { try pair.write(bytes, from: side) }
    func push() -> PushedConnection { .notGranted }
    func releaseGrant() {}

    func read(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer? {
        try await pair.read(side, deadline: deadline)
    }

    func read(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?
    ) async throws -> Int {
        var received = 0
        while received < count {
            guard var bytes = try await pair.read(side, atMost: count - received, deadline: deadline) else { break }
            received += buffer.writeBuffer(&bytes)
        }
        return received
    }

    func waitForRoom(deadline: ContinuousClock.Instant?) async throws {
        try await pair.waitForRoom(side, deadline: deadline)
    }

    func opened(deadline: ContinuousClock.Instant) async throws { try await pair.waitForAnswer(deadline: deadline) }

    func takeNews() -> ConnectionNews {
        switch take() {
        case .bytes(let bytes): .bytes(bytes)
        case .nothing: .nothing
        case .finished: .finished
        case .failed(let error): .failed(error)
        }
    }

    func nextNews(deadline: ContinuousClock.Instant?) async throws -> ConnectionNews {
        try await read(deadline: deadline).map { .bytes($0) } ?? .finished
    }

    func close() { pair.end(side, .closed) }
    func fail(_ message: String) { pair.end(side, .failed(message)) }
    func abort(_ message: String) { pair.end(side, .failed(message), dropsQueued: true) }
}

/// Runs closures one after the other, on the thread that submits the first of them. Stands for the network thread.
final class InMemoryTurns: Sendable {
    fileprivate struct Inside {
        var waiting = Deque<@Sendable () -> Void>()
        var isRunning = false
    }

    private let inside = NIOLockedValueBox(Inside())

    func run(_ body: @escaping @Sendable () -> Void) {
        let isFirst = inside.withLockedValue { inside in
            inside.waiting.append(body)
            defer { inside.isRunning = true }
            return !inside.isRunning
        }
        guard isFirst else { return }
        while true {
            let next = inside.withLockedValue { inside in
                let next = inside.waiting.popFirst()
                if next == nil { inside.isRunning = false }
                return next
            }
            guard let next else { return }
            next()
        }
    }
}
