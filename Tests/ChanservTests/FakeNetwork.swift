import Chanserv
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// A clock that moves only when a test advances it.
final class ManualClock: Sendable {
    private struct Storage {
        var now = ContinuousClock.now
        var scheduled: [(id: UInt64, at: ContinuousClock.Instant, body: @Sendable () -> Void)] = []
        var lastID: UInt64 = 0
        var random: UInt64 = 0
    }

    private let storage = NIOLockedValueBox(Storage())

    var now: ContinuousClock.Instant { storage.withLockedValue { $0.now } }

    /// The number of scheduled closures.
    var scheduledCount: Int { storage.withLockedValue { $0.scheduled.count } }

    var surroundings: NetworkEnvironment {
        NetworkEnvironment(
            now: { self.now },
            random: {
                self.storage.withLockedValue { storage in
                    storage.random += 1
                    return storage.random
                }
            },
            schedule: { instant, body in
                let id = self.storage.withLockedValue { storage in
                    storage.lastID += 1
                    storage.scheduled.append((storage.lastID, instant, body))
                    return storage.lastID
                }
                return { self.storage.withLockedValue { $0.scheduled.removeAll { $0.id == id } } }
            })
    }

    /// Advances the clock and runs the closures that become due, in order.
    func advance(by duration: Duration) {
        let end = now + duration
        while true {
            let next = storage.withLockedValue { storage -> (@Sendable () -> Void)? in
                guard
                    let index = storage.scheduled.indices.min(by: {
                        storage.scheduled[$0].at < storage.scheduled[$1].at
                    }),
                    storage.scheduled[index].at <= end
                else {
                    storage.now = end
                    return nil
                }
                let next = storage.scheduled.remove(at: index)
                storage.now = max(storage.now, next.at)
                return next.body
            }
            guard let next else { return }
            next()
        }
    }
}

/// A network whose requests come from the test, each on a ``FakeConnection``.
final class FakeNetwork: Multiplexer {
    let clock = ManualClock()
    private let bound = NIOLockedValueBox<[String: @Sendable (any Connection) -> DialAnswer]>([:])
    /// Called before a name is bound. It may throw.
    private let onBind = NIOLockedValueBox<@Sendable (String) throws(ConnectionError) -> Void>({ _ in })

    var surroundings: NetworkEnvironment { clock.surroundings }

    var names: Set<String> { bound.withLockedValue { Set($0.keys) } }

    func whenBinding(_ body: @escaping @Sendable (String) throws(ConnectionError) -> Void) {
        onBind.withLockedValue { $0 = body }
    }

    private struct Name: Binding {
        let unbind: @Sendable () -> Void

        func close() { unbind() }
        func whenWithdrawn(_ body: @escaping @Sendable () -> Void) {}
    }

    func bind(
        _ name: String, visibleTo peer: (any Connection)?,
        onConnection: @escaping @Sendable (any Connection) -> DialAnswer
    ) throws(ConnectionError) -> any Binding {
        try onBind.withLockedValue { $0 }(name)
        bound.withLockedValue { $0[name] = onConnection }
        return Name { [bound] in bound.withLockedValue { $0[name] = nil } }
    }

    /// Dials a name as a client.
    @discardableResult
    func request(_ connection: FakeConnection, to name: String = "svc") throws -> DialAnswer {
        let onConnection = try #require(bound.withLockedValue { $0[name] })
        return onConnection(connection)
    }

    nonisolated(nonsending) func dial(
        _ name: String, _ request: DialOptions, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Connection, isSent: Bool) {
        throw ConnectionError(.notFound, "nothing is dialled here")
    }

    nonisolated(nonsending) func dial(
        _ name: String, receivedFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection {
        throw ConnectionError(.notFound, "nothing is dialled here")
    }

    private let sources = NIOLockedValueBox<[FakeConnection]>([])

    /// The sources that a client has dialled. ``FakeConnection/answer()`` answers a dial.
    var dialled: [FakeConnection] { sources.withLockedValue { $0 } }

    func dialNow(
        _ name: String, receivedFrom peer: any Connection, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Connection)? {
        let connection = FakeConnection(dialled: ())
        connection.setDelegate(delegate)
        sources.withLockedValue { $0.append(connection) }
        return connection
    }
}

/// The server's end of a connection, or the client's end of a named source. The test is the peer.
final class FakeConnection: Connection {
    enum End: Hashable {
        case closed
        case failed(String)
        case aborted(String)
    }

    private struct Storage {
        var incoming = ByteBuffer()
        var written = ByteBuffer()
        var end: End?
        var delegate: (any ConnectionDelegate)?
        var isPeerClosed = false
        var isUnaccepted = false
        var wasAccepted = false
        var isAnswered = true
        var hasCapacity = true
        var context = RequestContext()
        var grant: Int?
        var window: Int?
        var pushed: [FakeConnection] = []
    }

    private let storage: NIOLockedValueBox<Storage>

    /// The connection of a request.
    ///
    /// - Parameters:
    ///   - body: the complete body that the client sends; `nil` if it sends nothing yet.
    ///   - sources: maximum number of pushed sources that the client has not accepted; `nil` for named sources.
    ///   - window: maximum number of bytes of such a source.
    init(
        body: String? = "", sources: Int? = nil, window: Int = 16_384, context: RequestContext = RequestContext()
    ) {
        var incoming = ByteBuffer()
        if let body {
            incoming.writeInteger(UInt64(body.utf8.count), endianness: .little)
            incoming.writeString(body)
        }
        storage = NIOLockedValueBox(
            Storage(incoming: incoming, context: context, grant: sources, window: sources.map { _ in window }))
    }

    /// A pushed source.
    private init(offered: Void) {
        storage = NIOLockedValueBox(Storage(isUnaccepted: true))
    }

    /// A source that a client dials.
    init(dialled: Void) {
        storage = NIOLockedValueBox(Storage(isAnswered: false))
    }

    // MARK: The test's side

    var end: End? { storage.withLockedValue { $0.end } }
    var writtenBytes: Int { storage.withLockedValue { $0.written.readableBytes } }
    /// The written frames. The first frame of a pushed source is its header.
    var frames: [String] {
        get throws {
            try FrameDecoder.decodeAll(storage.withLockedValue { $0.written }) {
                $0.readSlice(length: $0.readableBytes)
            }.map { String(decoding: $0, as: UTF8.self) }
        }
    }
    var pushed: [FakeConnection] { storage.withLockedValue { $0.pushed } }

    private func change(_ body: (inout Storage) -> Void) {
        let delegate = storage.withLockedValue { storage in
            body(&storage)
            return storage.delegate
        }
        delegate?.connectionChanged()
    }

    func receive(_ bytes: [UInt8]) { change { $0.incoming.writeBytes(bytes) } }

    /// The client accepts a pushed source.
    func accept() {
        change { storage in
            storage.isUnaccepted = false
            storage.wasAccepted = true
        }
    }

    /// The client accepts a pushed source, and the delegate is not called.
    func acceptSilently() {
        storage.withLockedValue { storage in
            storage.isUnaccepted = false
            storage.wasAccepted = true
        }
    }

    /// The client ends the connection.
    func leave() {
        change { storage in
            storage.isUnaccepted = false
            storage.isPeerClosed = true
        }
    }

    /// The client ends the connection, and the delegate is not called.
    func closeByPeerSilently() { storage.withLockedValue { $0.isPeerClosed = true } }

    func setRoom(_ hasCapacity: Bool) {
        guard hasCapacity else { return storage.withLockedValue { $0.hasCapacity = false } }
        change { $0.hasCapacity = true }
    }

    /// The server answers the dial.
    func answer() { change { $0.isAnswered = true } }

    func changed() { change { _ in } }

    // MARK: The server's side

    var addresses: ConnectionAddresses { ConnectionAddresses(local: "server", remote: "client", network: "fake") }
    var peerDescription: String { "client" }

    func takeContext() -> RequestContext { storage.withLockedValue { $0.context } }

    func setDelegate(_ delegate: (any ConnectionDelegate)?) {
        storage.withLockedValue { storage in
            if storage.end == nil || storage.isUnaccepted { storage.delegate = delegate }
        }
    }

    func callDelegateSoon() { changed() }

    var isOnNetworkThread: Bool { false }

    func runSoon(_ body: @escaping @Sendable () -> Void) { body() }

    var progress: ConnectionProgress {
        storage.withLockedValue {
            ConnectionProgress(
                isPeerClosed: $0.isPeerClosed, isUnaccepted: $0.isUnaccepted, wasAccepted: $0.wasAccepted)
        }
    }

    func take() -> ReceivedBytes {
        storage.withLockedValue { storage in
            guard storage.incoming.readableBytes > 0 else { return storage.isPeerClosed ? .finished : .nothing }
            defer { storage.incoming = ByteBuffer() }
            return .bytes(storage.incoming)
        }
    }

    func write(_ bytes: ByteBuffer) throws(ConnectionError) -> Bool {
        let result = storage.withLockedValue { storage -> Result<Bool, ConnectionError> in
            if storage.end != nil { return .failure(ConnectionError(.closed, "closed")) }
            if storage.isPeerClosed { return .failure(ConnectionError(.closedByPeer, "the client wants no more")) }
            storage.written.writeImmutableBuffer(bytes)
            return .success(storage.hasCapacity)
        }
        return try result.get()
    }

    func push() -> PushedConnection {
        storage.withLockedValue { storage in
            guard let grant = storage.grant else { return .notGranted }
            guard !storage.isPeerClosed, storage.end == nil else { return .ended }
            guard storage.pushed.count(where: \.progress.isUnaccepted) < grant else { return .grantExhausted }
            let pushed = FakeConnection(offered: ())
            storage.pushed.append(pushed)
            return .opened(pushed)
        }
    }

    private func end(_ end: End) {
        let delegate = storage.withLockedValue { storage -> (any ConnectionDelegate)? in
            guard storage.end == nil || storage.isUnaccepted else { return nil }
            storage.end = end
            // A source that was sent in full stays until the client accepts it or gives it up.
            if storage.isUnaccepted, case .closed = end { return nil }
            if storage.isUnaccepted, case .failed = end { return nil }
            defer { storage.delegate = nil }
            return storage.delegate
        }
        withExtendedLifetime(delegate) {}
    }

    func close() { end(.closed) }
    func fail(_ message: String) { end(.failed(message)) }
    func abort(_ message: String) { end(.aborted(message)) }

    var isAnswered: Bool { storage.withLockedValue { $0.isAnswered } }
    var expectsPush: Bool { false }
    var pushWindow: Int? { storage.withLockedValue { $0.window } }
    func releaseGrant() {}

    // The server's end never waits.

    private struct NotUsed: Error {}

    nonisolated(nonsending) func read(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer? {
        throw NotUsed()
    }
    nonisolated(nonsending) func read(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?
    ) async throws -> Int { throw NotUsed() }
    nonisolated(nonsending) func waitForRoom(deadline: ContinuousClock.Instant?) async throws { throw NotUsed() }
    nonisolated(nonsending) func opened(deadline: ContinuousClock.Instant) async throws { throw NotUsed() }
    func takeEvent() -> ConnectionEvent { .nothing }
    nonisolated(nonsending) func nextEvent(deadline: ContinuousClock.Instant?) async throws -> ConnectionEvent {
        throw NotUsed()
    }
}

/// A request handler that the test controls, in place of a plugin.
final class ManualHandler: RequestHandler {
    private let begun = NIOLockedValueBox<[ManualWork]>([])

    var requests: [ManualWork] { begun.withLockedValue { $0 } }

    func begin(_ request: Request, in scope: RequestScope) {
        let work = ManualWork(request, scope)
        begun.withLockedValue { $0.append(work) }
        #expect(scope.attach(work))
    }
}

/// One request of a ``ManualHandler``.
final class ManualWork: RequestWork {
    let request: Request
    let scope: RequestScope
    private let calls = NIOLockedValueBox((resumed: 0, cancelled: 0))

    init(_ request: Request, _ scope: RequestScope) {
        self.request = request
        self.scope = scope
    }

    var resumed: Int { calls.withLockedValue { $0.resumed } }
    var cancelled: Int { calls.withLockedValue { $0.cancelled } }
    func resume() { calls.withLockedValue { $0.resumed += 1 } }
    func cancel() { calls.withLockedValue { $0.cancelled += 1 } }

    /// Adds a source and starts it. Throws if the source cannot be added.
    func add(header: String = "", onResume: @escaping @Sendable (SourceScope) -> Void = { _ in }) throws
        -> ManualSource
    {
        let made = NIOLockedValueBox<ManualSource?>(nil)
        let added = scope.add(header: ByteBuffer(string: header)) { output in
            let work = ManualSource(output, onResume)
            made.withLockedValue { $0 = work }
            return work
        }
        guard case .added(let source) = added else { throw ChanservError(.cancelled, "not added: \(added)") }
        source.start()
        return try #require(made.withLockedValue { $0 })
    }
}

/// One source of a ``ManualWork``.
final class ManualSource: SourceWork {
    let output: SourceScope
    private let onResume: @Sendable (SourceScope) -> Void
    private let calls = NIOLockedValueBox((resumed: 0, cancelled: 0))

    init(_ output: SourceScope, _ onResume: @escaping @Sendable (SourceScope) -> Void) {
        self.output = output
        self.onResume = onResume
    }

    var resumed: Int { calls.withLockedValue { $0.resumed } }
    var cancelled: Int { calls.withLockedValue { $0.cancelled } }

    func resume() {
        calls.withLockedValue { $0.resumed += 1 }
        onResume(output)
    }

    func cancel() { calls.withLockedValue { $0.cancelled += 1 } }

    /// Sends one frame of `size` bytes.
    @discardableResult
    func send(_ size: Int) throws -> SourceRoom {
        var batch = FrameBatch()
        try batch.append([UInt8](repeating: 7, count: size))
        return output.write(&batch)
    }
}

/// A service on a ``FakeNetwork``. The test serves its requests.
struct ManualService {
    let network = FakeNetwork()
    let handler = ManualHandler()
    let server: Server
    let service: VirtualService
    let journal = Journal()

    init(_ change: (inout Server.Configuration) -> Void = { _ in }) throws {
        var configuration = Server.Configuration()
        configuration.onError = { [journal] in journal.add("request: \($0)") }
        configuration.onChanError = { [journal] in journal.add("source: \($0)") }
        change(&configuration)
        server = Server(multiplexer: network, configuration: configuration)
        service = try server.serve("svc", handler: handler)
    }

    var open: OpenRequests { server.open }

    /// Sends a request whose body has arrived.
    func request(_ connection: FakeConnection) throws -> ManualWork {
        #expect(try network.request(connection) == .accepted)
        connection.changed()
        return try #require(handler.requests.last)
    }
}
