public import NIOCore

/// What chanserv needs of a network: names that can be bound and dialled, and connections between them.
///
/// AstraNet's node conforms through `AstraNetMultiplexer` (library ChanservAstraNet); `InMemoryMultiplexer` is for tests
/// and for a client and a server in one process. Every failure is thrown as a ``ConnectionError``.
public protocol Multiplexer: Sendable {
    /// Time, chance and the executor of tasks. The default is the system's.
    var surroundings: NetworkSurroundings { get }

    /// Binds `name` and announces it, so that it can be dialled from now on.
    ///
    /// - Parameters:
    ///   - name: the virtual address, without an environment suffix (the multiplexer appends its own).
    ///   - peer: announces the name only to the host at the other end of this connection, for the name of a source; `nil`
    ///     announces it everywhere.
    ///   - onConnection: called for each connection that is dialled, on a thread of the network. It must return at once and
    ///     set the connection's delegate if it accepts it.
    /// - Throws: ``ConnectionError`` with code `addressInUse`, or `closed` after a shutdown.
    func bind(
        _ name: String, visibleTo peer: (any Connection)?,
        onConnection: @escaping @Sendable (any Connection) -> Admission
    ) throws(ConnectionError) -> any Binding

    /// Opens a connection to some host that offers `name`, waiting for an offer if there is none yet.
    ///
    /// - Parameters:
    ///   - name: the virtual address.
    ///   - request: what the host is told with the dial.
    ///   - deadline: when to give up.
    /// - Returns: the connection, and whether `request.first` is queued on it already; if not, the caller writes it.
    /// - Throws: ``ConnectionError`` with code `notFound` if no host offers the name by the deadline, `deadlineExceeded` if
    ///   the host that does has not answered, `connectionLost` or `deadlineExceeded` if some host may have received
    ///   `request.first`, which is then sent to no other; or `CancellationError`.
    nonisolated(nonsending) func dial(
        _ name: String, _ request: DialOptions, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Connection, isSent: Bool)

    /// Opens a connection to a name that was learnt on `peer` (the name of a source), waiting for an offer for as long as the
    /// way to that peer is there.
    ///
    /// - Throws: as ``dial(_:_:deadline:)``, and ``ConnectionError`` with code `connectionLost` as soon as no host offers the
    ///   name and the way to the peer is gone.
    nonisolated(nonsending) func dial(
        _ name: String, learntFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection

    /// Dials a name that was learnt on `peer` if some host offers it now, without waiting for the answer: the connection
    /// reports it to `delegate`. `nil` if no host offers the name. By default always `nil`.
    func dialNow(
        _ name: String, learntFrom peer: any Connection, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Connection)?
}

extension Multiplexer {
    public var surroundings: NetworkSurroundings { .system }

    public func dialNow(
        _ name: String, learntFrom peer: any Connection, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Connection)? { nil }
}

/// What a host is told with a dial.
public struct DialOptions: Sendable {
    /// The same bucket goes to the same offer for as long as the set of offers stays the same; `nil` picks at random.
    public var bucket: String?
    /// Bytes that are sent with the dial if the network can do that and they are few.
    public var first: ByteBuffer
    /// Deadline, tags and trace parent of the request.
    public var context: RequestContext
    /// How many sources the server may push that the client has not taken yet; 0 for none.
    public var maximumPushedSources: Int

    public init(
        bucket: String? = nil, first: ByteBuffer = ByteBuffer(), context: RequestContext = RequestContext(),
        maximumPushedSources: Int = 0
    ) {
        self.bucket = bucket
        self.first = first
        self.context = context
        self.maximumPushedSources = maximumPushedSources
    }
}

/// The answer to a connection that was dialled.
public enum Admission: Sendable, Hashable {
    case accepted
    /// The dialer gets this error and tries another offer.
    case refused(String)
}

/// A bound name.
public protocol Binding: Sendable {
    /// Withdraws the name. Connections that were accepted go on. Repeating it does nothing.
    func close()

    /// Calls `body` once when the network withdraws the name because it is shut down; at once if it has done so. Not called
    /// after ``close()``.
    func whenWithdrawn(_ body: @escaping @Sendable () -> Void)
}

/// Receives the events of a connection.
public protocol ConnectionDelegate: AnyObject, Sendable {
    /// Bytes came, there is room to write again, the peer accepted or ended the connection, or a source was pushed.
    ///
    /// Called on a thread of the network, never twice at a time for one connection, and with no lock held. Events that come
    /// together are reported once: the delegate looks at the connection.
    func connectionChanged()
}

/// A connection: bytes in each direction, with flow control, whose directions end separately.
///
/// One task may read while another writes; two reads (or two writes) at the same time are a programming error. A connection
/// must be ended with ``close()``, ``fail(_:)`` or ``abort(_:)``, whatever happened before.
public protocol Connection: AnyObject, Sendable {
    /// Where the two ends are, in the network's own notation.
    var addresses: ConnectionAddresses { get }

    /// Deadline, tags and trace parent that came with the dial. Only the first call returns them.
    func takeContext() -> RequestContext

    /// The other end in the network's own notation.
    var peerDescription: String { get }

    /// Reports events to `delegate` from now on, until this end ends the connection; to none for `nil`. The connection holds
    /// the delegate.
    func setDelegate(_ delegate: (any ConnectionDelegate)?)

    /// Calls the delegate soon, on the network's thread.
    func callDelegateSoon()

    /// Whether the caller runs on the network's thread of this connection.
    var isOnNetworkThread: Bool { get }

    /// Runs `body` soon, on the network's thread of this connection.
    func runSoon(_ body: @escaping @Sendable () -> Void)

    /// How far the connection is, at one moment.
    var progress: ConnectionProgress { get }

    // MARK: Without waiting

    /// Takes the bytes that came since the last call. Taking them gives the peer its credit back.
    func take() -> ReceivedBytes

    /// Queues `bytes`.
    ///
    /// - Returns: whether there is room for more; if not, the delegate is called when there is.
    /// - Throws: ``ConnectionError`` with code `closedByPeer` (the peer wants no more), `failedByPeer`, `connectionLost` or
    ///   `closed`.
    func write(_ bytes: ByteBuffer) throws(ConnectionError) -> Bool

    // MARK: Waiting

    /// Returns all the bytes that came since the last read, and waits if there are none; `nil` once the peer said that there
    /// are no more. Cancellation ends the wait with `CancellationError`.
    ///
    /// - Throws: ``ConnectionError`` with code `failedByPeer` (after what was sent before it), `connectionLost`,
    ///   `deadlineExceeded` (the connection stays usable), or `closed`.
    nonisolated(nonsending) func read(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer?

    /// Appends bytes to `buffer` until there are `count` more: for a reader that knows how much it waits for. Bytes that came
    /// stay in `buffer` if this throws.
    ///
    /// - Parameters:
    ///   - count: how many bytes, at least 1.
    ///   - buffer: where to.
    ///   - deadline: when to give up, `nil` for never.
    /// - Returns: how many came: `count`, or fewer if the peer said that there are no more.
    /// - Throws: as ``read(deadline:)``.
    nonisolated(nonsending) func read(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?
    ) async throws -> Int

    /// Waits until there is room to write.
    ///
    /// - Throws: as ``write(_:)``, `deadlineExceeded`, or `CancellationError`.
    nonisolated(nonsending) func waitForRoom(deadline: ContinuousClock.Instant?) async throws

    /// Waits until the peer has accepted a connection of ``Multiplexer/dialNow(_:learntFrom:delegate:)``.
    ///
    /// - Throws: ``ConnectionError``; `CancellationError`.
    nonisolated(nonsending) func opened(deadline: ContinuousClock.Instant) async throws

    /// Whether the peer's answer to the dial has come, whatever it is.
    var isAnswered: Bool { get }

    // MARK: Pushed sources

    /// Whether the request of this connection, which this end dialled, lets the server push sources.
    var expectsPush: Bool { get }

    /// How many bytes a source that this end pushes may send before the peer takes it; `nil` if the peer takes no pushed
    /// sources.
    var pushWindow: Int? { get }

    /// Opens a source of the request that came on this connection, towards the peer. One thread at a time.
    func push() -> PushedConnection

    /// Returns what came on the connection of a request, without waiting: a pushed source, bytes, or the end.
    func takeNews() -> ConnectionNews

    /// As ``takeNews()``, and waits while there is nothing.
    ///
    /// - Throws: as ``read(deadline:)``, instead of returning a failure.
    nonisolated(nonsending) func nextNews(deadline: ContinuousClock.Instant?) async throws -> ConnectionNews

    /// The peer has ended the request, and its sources were taken: memory that was set aside for them is free.
    func releaseGrant()

    // MARK: Ending

    /// Ends both directions well: the peer reads what was queued, then the end. What comes from the peer is dropped.
    /// Does nothing on a connection that has ended.
    func close()

    /// Ends both directions with a failure: the peer reads what was queued, then an error with this message.
    /// Does nothing on a connection that has ended.
    ///
    /// - Parameter message: for the peer's user, at most 1,024 bytes of it are sent.
    func fail(_ message: String)

    /// As ``fail(_:)``, without what is queued: for a peer that does not take its bytes in time.
    func abort(_ message: String)
}

extension Connection {
    /// As ``ConnectionProgress/isPeerGone``.
    var isPeerGone: Bool { progress.isPeerGone }
}

/// How far a connection is.
public struct ConnectionProgress: Sendable, Hashable {
    /// Whether the peer has ended the connection in a way that makes writing pointless: it closed or failed it, or the network
    /// between the two ends broke. Default `false`.
    public var isPeerGone: Bool
    /// Whether this is a pushed source that the peer has not taken yet. Default `false`.
    public var isOffered: Bool
    /// Whether the peer has taken this pushed source. Default `true`: a connection that was dialled is taken.
    public var wasTaken: Bool

    public init(isPeerGone: Bool = false, isOffered: Bool = false, wasTaken: Bool = true) {
        self.isPeerGone = isPeerGone
        self.isOffered = isOffered
        self.wasTaken = wasTaken
    }
}

/// The result of ``Connection/take()``.
public enum ReceivedBytes: Sendable {
    case bytes(ByteBuffer)
    /// Nothing has come since the last call.
    case nothing
    /// The peer said that there are no more.
    case finished
    case failed(ConnectionError)
}

/// The result of ``Connection/push()``.
public enum PushedConnection: Sendable {
    case opened(any Connection)
    /// The peer has not taken as many sources as it granted. The delegate of the request's connection is called when it takes
    /// one.
    case noRoom
    /// The peer takes no pushed sources.
    case notGranted
    /// The request has ended.
    case ended
}

/// What came on the connection of a request.
public enum ConnectionNews: Sendable {
    case pushed(any Connection)
    /// The server announces its sources by name.
    case bytes(ByteBuffer)
    case finished
    case failed(ConnectionError)
    /// Nothing has come since the last call.
    case nothing
}

/// Time, chance and tasks as a network has them: the system's, or a simulation's.
public struct NetworkSurroundings: Sendable {
    /// The present.
    public var now: @Sendable () -> ContinuousClock.Instant
    /// An unpredictable number.
    public var random: @Sendable () -> UInt64
    /// Runs a closure at an instant, on any thread; it must return at once. Returns a closure that cancels that.
    public var schedule: @Sendable (ContinuousClock.Instant, @escaping @Sendable () -> Void) -> @Sendable () -> Void
    /// Runs the tasks that this library starts; `nil` for Swift's own pool.
    public var executor: (any TaskExecutor)?

    public init(
        now: @escaping @Sendable () -> ContinuousClock.Instant, random: @escaping @Sendable () -> UInt64,
        schedule: @escaping @Sendable (ContinuousClock.Instant, @escaping @Sendable () -> Void) -> @Sendable () -> Void,
        executor: (any TaskExecutor)? = nil
    ) {
        self.now = now
        self.random = random
        self.schedule = schedule
        self.executor = executor
    }

    /// The system's clock, random numbers and Swift's own pool.
    public static let system = NetworkSurroundings(
        now: { .now }, random: { .random(in: 0...UInt64.max) },
        schedule: { instant, body in
            let task = Task {
                // Only the cancellation of the closure ends the sleep early.
                do { try await Task.sleep(until: instant, clock: .continuous) } catch { return }
                body()
            }
            return { task.cancel() }
        })
}

/// Where a connection's ends are.
public struct ConnectionAddresses: Sendable, Hashable {
    /// This end, e.g. `EjRWeBI0VngA:16777217`.
    public var local: String
    /// The other end.
    public var remote: String
    /// The name of the network at both ends, e.g. `astranet`; empty where it has none.
    public var network: String

    public init(local: String, remote: String, network: String) {
        self.local = local
        self.remote = remote
        self.network = network
    }
}

/// Why a ``Multiplexer``, a ``ConnectionListener`` or a ``Connection`` could not do what was asked.
public struct ConnectionError: Error, Sendable, Hashable {
    /// The kind of failure; more may be added.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        public let description: String

        /// The name is bound already.
        public static let addressInUse = Code(description: "address in use")
        /// Nobody offers the name.
        public static let notFound = Code(description: "not found")
        /// The peer refused the connection.
        public static let refused = Code(description: "refused")
        /// The peer's application reported a failure; the message is the peer's.
        public static let failedByPeer = Code(description: "failed by peer")
        /// The peer wants no more bytes.
        public static let closedByPeer = Code(description: "closed by peer")
        /// The network between the two ends broke.
        public static let connectionLost = Code(description: "connection lost")
        /// A deadline passed.
        public static let deadlineExceeded = Code(description: "deadline exceeded")
        /// This end closed the connection, the listener or the multiplexer itself.
        public static let closed = Code(description: "closed")
        /// The peer broke the multiplexer's protocol.
        public static let protocolViolation = Code(description: "protocol violation")
        /// A limit of this end was reached.
        public static let limitReached = Code(description: "limit reached")
    }

    /// The kind of failure.
    public var code: Code
    /// What happened, for a person; for `failedByPeer` what the peer said.
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}

extension ConnectionError: CustomStringConvertible {
    public var description: String { message.isEmpty ? code.description : "\(code): \(message)" }
}
