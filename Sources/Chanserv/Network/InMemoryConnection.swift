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
    package enum End: Sendable, Hashable {
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

    fileprivate struct Storage {
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
    private let network: InMemoryEventLoop
    private let port: Int
    private let over: @Sendable (InMemoryPair) -> Void
    private let storage: NIOLockedValueBox<Storage>

    /// - Parameter over: called when both sides have ended the connection.
    init(
        window: Int, port: Int, context: RequestContext, network: InMemoryEventLoop,
        over: @escaping @Sendable (InMemoryPair) -> Void
    ) {
        self.window = window
        self.port = port
        self.network = network
        self.over = over
        storage = NIOLockedValueBox(Storage(context: context))
    }

    func addresses(of side: Side) -> ConnectionAddresses {
        let own = port + side.rawValue
        let other = port + side.other.rawValue
        return ConnectionAddresses(local: "memory:\(own)", remote: "memory:\(other)", network: "memory")
    }

    func takeContext() -> RequestContext {
        storage.withLockedValue { storage in
            defer { storage.context = RequestContext() }
            return storage.context
        }
    }

    // MARK: - Events

    func setDelegate(_ delegate: (any ConnectionDelegate)?, of side: Side) {
        storage.withLockedValue { storage in
            guard storage.ends[side.rawValue] == nil else { return }
            storage.delegates[side.rawValue] = delegate
        }
    }

    /// Reports an event to `side`.
    func changed(_ side: Side) {
        let (isFirst, waiters) = storage.withLockedValue { storage -> (Bool, [Event]) in
            let waiters = storage.waiters[side.rawValue]
            storage.waiters[side.rawValue] = []
            guard !storage.isQueued[side.rawValue] else { return (false, waiters) }
            storage.isQueued[side.rawValue] = true
            return (true, waiters)
        }
        for waiter in waiters { waiter.signal() }
        if isFirst { network.run { self.callDelegate(side) } }
    }

    func run(_ body: @escaping @Sendable () -> Void) { network.run(body) }

    private func callDelegate(_ side: Side) {
        let delegate = storage.withLockedValue { storage in
            storage.isQueued[side.rawValue] = false
            return storage.delegates[side.rawValue]
        }
        delegate?.connectionChanged()
    }

    /// Waits for an event of `side`.
    ///
    /// - Parameter isReady: called under the lock. If it returns `true`, there is no wait.
    nonisolated(nonsending) private func wait(
        _ side: Side, deadline: ContinuousClock.Instant?, _ isReady: (borrowing Storage) -> Bool
    ) async throws {
        let event = Event()
        let waits = storage.withLockedValue { storage in
            if isReady(storage) { return false }
            storage.waiters[side.rawValue].append(event)
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
        storage.withLockedValue { $0.isAnswered = true }
        changed(.dialler)
    }

    /// Ends a connection that the listener does not accept.
    func refuse(_ message: String) {
        storage.withLockedValue { storage in
            storage.refusal = message
            storage.isAnswered = true
        }
        end(.listener, .failed(message))
    }

    var refusal: String? { storage.withLockedValue { $0.refusal } }

    var isAnswered: Bool { storage.withLockedValue { $0.isAnswered || $0.isLost } }

    func isPeerClosed(of side: Side) -> Bool {
        storage.withLockedValue { $0.isLost || $0.ends[side.other.rawValue] != nil }
    }

    // MARK: - Bytes

    func take(_ side: Side, atMost limit: Int = .max) -> ReceivedBytes {
        let (received, madeRoom) = storage.withLockedValue { storage -> (ReceivedBytes, Bool) in
            let from = side.other.rawValue
            if storage.ends[side.rawValue] != nil {
                return (.failed(ConnectionError(.closed, "this end closed the connection")), false)
            }
            if storage.directions[from].arrived.readableBytes > 0 {
                let count = min(limit, storage.directions[from].arrived.readableBytes)
                guard let bytes = storage.directions[from].arrived.readSlice(length: count) else {
                    return (.nothing, false)
                }
                if storage.directions[from].arrived.readableBytes == 0 {
                    storage.directions[from].arrived = ByteBuffer()
                }
                storage.directions[from].advance(window)
                let reports = storage.directions[from].reportsRoom && storage.directions[from].queuedBytes == 0
                if reports { storage.directions[from].reportsRoom = false }
                return (.bytes(bytes), reports)
            }
            if storage.isLost { return (.failed(ConnectionError(.connectionLost, "the network broke")), false) }
            switch storage.directions[from].end {
            case nil: return (.nothing, false)
            case .closed: return (.finished, false)
            case .failed(let message): return (.failed(ConnectionError(.failedByPeer, message)), false)
            }
        }
        if madeRoom { changed(side.other) }
        return received
    }

    func write(_ bytes: ByteBuffer, from side: Side) throws(ConnectionError) -> Bool {
        let result = storage.withLockedValue {
            storage -> Result<(hasCapacity: Bool, wakesReader: Bool), ConnectionError> in
            if storage.ends[side.rawValue] != nil {
                return .failure(ConnectionError(.closed, "this end closed the connection"))
            }
            if storage.isLost { return .failure(ConnectionError(.connectionLost, "the network broke")) }
            switch storage.ends[side.other.rawValue] {
            case nil: break
            case .closed: return .failure(ConnectionError(.closedByPeer, "the peer reads no more"))
            case .failed(let message): return .failure(ConnectionError(.failedByPeer, message))
            }
            var direction = storage.directions[side.rawValue]
            let hadNone = direction.arrived.readableBytes == 0
            if bytes.readableBytes > 0 {
                direction.queued.append(bytes)
                direction.queuedBytes += bytes.readableBytes
            }
            direction.advance(window)
            let hasCapacity = direction.queuedBytes == 0
            if !hasCapacity { direction.reportsRoom = true }
            storage.directions[side.rawValue] = direction
            return .success((hasCapacity, hadNone && direction.arrived.readableBytes > 0))
        }
        let (hasCapacity, wakesReader) = try result.get()
        if wakesReader { changed(side.other) }
        return hasCapacity
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
        let (isFirst, isOver) = storage.withLockedValue { storage -> (Bool, Bool) in
            guard storage.ends[side.rawValue] == nil else { return (false, false) }
            storage.ends[side.rawValue] = end
            swap(&delegate, &storage.delegates[side.rawValue])
            if dropsQueued {
                storage.directions[side.rawValue].queued = []
                storage.directions[side.rawValue].queuedBytes = 0
            }
            storage.directions[side.rawValue].end = end
            // This side reads no more, so bytes from the peer are dropped.
            storage.directions[side.other.rawValue].arrived = ByteBuffer()
            storage.directions[side.other.rawValue].queued = []
            storage.directions[side.other.rawValue].queuedBytes = 0
            return (true, storage.ends[side.other.rawValue] != nil || storage.isLost)
        }
        withExtendedLifetime(delegate) {}
        guard isFirst else { return }
        changed(side.other)
        changed(side)
        if isOver { over(self) }
    }

    /// Ends the connection at both ends with `connectionLost`.
    func lose() {
        storage.withLockedValue { storage in
            storage.isLost = true
            for side in [0, 1] {
                storage.directions[side].queued = []
                storage.directions[side].queuedBytes = 0
            }
        }
        changed(.dialler)
        changed(.listener)
        over(self)
    }
}

extension InMemoryPair.Storage {
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
    var progress: ConnectionProgress { ConnectionProgress(isPeerClosed: pair.isPeerClosed(of: side)) }
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

    func takeEvent() -> ConnectionEvent {
        switch take() {
        case .bytes(let bytes): .bytes(bytes)
        case .nothing: .nothing
        case .finished: .finished
        case .failed(let error): .failed(error)
        }
    }

    func nextEvent(deadline: ContinuousClock.Instant?) async throws -> ConnectionEvent {
        try await read(deadline: deadline).map { .bytes($0) } ?? .finished
    }

    func close() { pair.end(side, .closed) }
    func fail(_ message: String) { pair.end(side, .failed(message)) }
    func abort(_ message: String) { pair.end(side, .failed(message), dropsQueued: true) }
}

/// Runs closures one after the other, on the thread that submits the first of them. Stands for the network thread.
final class InMemoryEventLoop: Sendable {
    fileprivate struct Storage {
        var waiting = Deque<@Sendable () -> Void>()
        var isRunning = false
    }

    private let storage = NIOLockedValueBox(Storage())

    func run(_ body: @escaping @Sendable () -> Void) {
        let isFirst = storage.withLockedValue { storage in
            storage.waiting.append(body)
            defer { storage.isRunning = true }
            return !storage.isRunning
        }
        guard isFirst else { return }
        while true {
            let next = storage.withLockedValue { storage in
                let next = storage.waiting.popFirst()
                if next == nil { storage.isRunning = false }
                return next
            }
            guard let next else { return }
            next()
        }
    }
}
