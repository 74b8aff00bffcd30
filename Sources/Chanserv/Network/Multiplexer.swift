public import NIOCore

/// A network as chanserv uses it: names that can be bound and dialled, and connections between them.
///
/// `AstraNetMultiplexer` (library ChanservAstraNet) adapts an AstraNet node. ``InMemoryMultiplexer`` is for tests, and
/// for a client and a server in one process. Every failure is thrown as a ``ConnectionError``.
public protocol Multiplexer: Sendable {
    /// The clock, timers, random numbers and task executor of this network. Default: the system's.
    var surroundings: NetworkEnvironment { get }

    /// Binds `name` and announces it. Clients can dial it from then on.
    ///
    /// - Parameters:
    ///   - name: the virtual address, without an environment suffix (the multiplexer appends its own).
    ///   - peer: if set, the name is announced only to the peer of this connection, as for the name of
    ///     a source. `nil` announces it to all hosts.
    ///   - onConnection: called for each connection that a client dials, on a network thread. It must return at once.
    ///     If it accepts the connection, it must set the connection's delegate.
    /// - Throws: ``ConnectionError`` with code `addressInUse`, or `closed` after a shutdown.
    func bind(
        _ name: String, visibleTo peer: (any Connection)?,
        onConnection: @escaping @Sendable (any Connection) -> DialAnswer
    ) throws(ConnectionError) -> any Binding

    /// Opens a connection to one of the hosts that offer `name`. Waits for an offer if there is none yet.
    ///
    /// - Parameters:
    ///   - name: the virtual address.
    ///   - request: the bytes and properties that are sent with the dial.
    ///   - deadline: the time at which the dial fails.
    /// - Returns: the connection, and whether `request.first` is already queued on it. If it is not, the caller writes
    ///   it.
    /// - Throws: ``ConnectionError`` with code `notFound` if no host offers the name by the deadline, or
    ///   `deadlineExceeded` if the dialled host has not answered by then. If a host may have received `request.first`,
    ///   the code is `connectionLost` or `deadlineExceeded`, and the bytes are sent to no other host. Also throws
    ///   `CancellationError`.
    nonisolated(nonsending) func dial(
        _ name: String, _ request: DialOptions, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Connection, isSent: Bool)

    /// Opens a connection to a name that was announced on `peer` (the name of a source). Waits for an offer while the
    /// link to that peer exists.
    ///
    /// - Throws: as ``dial(_:_:deadline:)``. Also ``ConnectionError`` with code `connectionLost` as soon as no host
    ///   offers the name and the link to the peer is lost.
    nonisolated(nonsending) func dial(
        _ name: String, receivedFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection

    /// Dials a name that was announced on `peer`, if a host offers it now. Does not wait for the answer; the connection
    /// reports it to `delegate`.
    ///
    /// - Returns: the connection; `nil` if no host offers the name. The default implementation always returns `nil`.
    func dialNow(
        _ name: String, receivedFrom peer: any Connection, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Connection)?
}

extension Multiplexer {
    public var surroundings: NetworkEnvironment { .system }

    public func dialNow(
        _ name: String, receivedFrom peer: any Connection, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Connection)? { nil }
}

/// The bytes and properties that are sent with a dial.
public struct DialOptions: Sendable {
    /// The bucket. The same bucket selects the same offer while the set of offers does not change. `nil` selects one at
    /// random.
    public var bucket: String?
    /// The first bytes of the connection. They are sent with the dial if the network supports that and the bytes are
    /// few.
    public var first: ByteBuffer
    /// The deadline, tags and trace parent of the request.
    public var context: RequestContext
    /// Maximum sources that the server may push before the client accepts them; 0 for none.
    public var maximumPushedSources: Int
    /// The number of times that the first bytes may be sent again to another host; `nil` for none.
    package var repeats: RepeatBudget?

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

/// The decision of a listener about a dialled connection.
public enum DialAnswer: Sendable, Hashable {
    case accepted
    /// The dialer receives this error and tries another offer.
    case refused(String)
}

/// A bound name.
public protocol Binding: Sendable {
    /// Withdraws the name. Accepted connections go on. Further calls do nothing.
    func close()

    /// Calls `body` once when the network withdraws the name because the network shuts down. Calls it at once if that
    /// has already happened. Does not call it after ``close()``.
    func whenWithdrawn(_ body: @escaping @Sendable () -> Void)

    /// Calls `body`, on a network thread, for each dial that the network answers before it calls `onConnection`. The
    /// text that it returns refuses the dial, so that the dialer tries another offer. The default implementation does
    /// nothing.
    func refuseDials(_ body: @escaping DialRefusal)
}

/// Returns the reason to refuse the dial of a connection; `nil` if there is none. It must not change the connection.
public typealias DialRefusal = @Sendable (any Connection) -> String?

extension Binding {
    public func refuseDials(_ body: @escaping DialRefusal) {}
}

/// Receives the events of a connection.
public protocol ConnectionDelegate: AnyObject, Sendable {
    /// Handles an event: bytes arrived, there is room to write again, the peer accepted or ended the connection, or the
    /// peer pushed a source.
    ///
    /// Called on a network thread, for one connection never by two threads at the same time, and with no lock held.
    /// Several events may be reported by one call, so the delegate must examine the connection.
    func connectionChanged()
}

/// The verified identity of the client of a connection.
public struct Caller: Sendable, Hashable {
    /// The verified name of the client, for example a URI of its certificate; empty if it has proved none.
    public var identity: String
    /// The identities of the network's access rules that the client matches.
    public var names: [String]

    public init(identity: String = "", names: [String] = []) {
        self.identity = identity
        self.names = names
    }
}

extension Connection {
    public var caller: Caller { Caller() }
    public var peerAddress: String { "" }
}

/// A connection: bytes in each direction, with flow control. The two directions end separately.
///
/// One task may read while another one writes. Two reads, or two writes, at the same time are a programming error. The
/// owner must end every connection with ``close()``, ``fail(_:)`` or ``abort(_:)``, also after the peer has ended it.
public protocol Connection: AnyObject, Sendable {
    /// The addresses of the two ends, in the network's notation.
    var addresses: ConnectionAddresses { get }

    /// Returns the deadline, tags and trace parent that arrived with the dial. Only the first call returns them.
    func takeContext() -> RequestContext

    /// The address of the peer, in the network's notation.
    var peerDescription: String { get }

    /// The verified identity of the client that dialled. Available until ``takeContext()``. The default
    /// implementation returns an unknown caller.
    var caller: Caller { get }

    /// `ip:port` of the peer on the link, which is the client or a router; empty, the default, if the network has none.
    var peerAddress: String { get }

    /// Reports events to `delegate` from now on, until the local side ends the connection. `nil` stops the reports. The
    /// connection retains the delegate.
    func setDelegate(_ delegate: (any ConnectionDelegate)?)

    /// Schedules a call of the delegate on the network thread of this connection.
    func callDelegateSoon()

    /// Whether the caller runs on the network thread of this connection.
    var isOnNetworkThread: Bool { get }

    /// Schedules `body` on the network thread of this connection.
    func runSoon(_ body: @escaping @Sendable () -> Void)

    /// A consistent snapshot of the connection's state.
    var progress: ConnectionProgress { get }

    // MARK: Without waiting

    /// Returns the bytes that arrived since the last call, without waiting. Taking them returns their credit to the
    /// peer.
    func take() -> ReceivedBytes

    /// Queues `bytes`.
    ///
    /// - Returns: whether there is room for more. If not, the delegate is called when there is.
    /// - Throws: ``ConnectionError`` with code `closedByPeer` (the peer reads no more), `failedByPeer`,
    ///   `connectionLost` or `closed`.
    func write(_ bytes: ByteBuffer) throws(ConnectionError) -> Bool

    // MARK: Waiting

    /// Returns the bytes that arrived since the last read, and waits if there are none. Returns `nil` after the peer
    /// has ended its direction. Cancellation of the task ends the wait with `CancellationError`.
    ///
    /// - Throws: ``ConnectionError`` with code `failedByPeer` (after all bytes that the peer sent before),
    ///   `connectionLost`, `deadlineExceeded` (the connection stays usable), or `closed`.
    nonisolated(nonsending) func read(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer?

    /// Appends `count` bytes to `buffer` and waits for them. For a reader that knows the number of bytes it needs. If
    /// this throws, `buffer` keeps the bytes that arrived before.
    ///
    /// - Parameters:
    ///   - count: the number of bytes, at least 1.
    ///   - buffer: the buffer to which the bytes are appended.
    ///   - deadline: the time at which the wait fails; `nil` for none.
    /// - Returns: the number of appended bytes: `count`, or fewer if the peer has ended its direction.
    /// - Throws: as ``read(deadline:)``.
    nonisolated(nonsending) func read(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?
    ) async throws -> Int

    /// Waits until there is room to write.
    ///
    /// - Throws: as ``write(_:)``; also `deadlineExceeded` and `CancellationError`.
    nonisolated(nonsending) func waitForRoom(deadline: ContinuousClock.Instant?) async throws

    /// Waits until the peer has accepted a connection that ``Multiplexer/dialNow(_:receivedFrom:delegate:)`` returned.
    ///
    /// - Throws: ``ConnectionError``, `CancellationError`.
    nonisolated(nonsending) func opened(deadline: ContinuousClock.Instant) async throws

    /// Whether the peer has answered the dial, by acceptance or refusal.
    var isAnswered: Bool { get }

    // MARK: Pushed sources

    /// Whether the local side dialled this connection with a request that allows the server to push sources.
    var expectsPush: Bool { get }

    /// Maximum bytes that a pushed source may send before the peer accepts it; `nil` if the peer accepts no pushed
    /// sources.
    var pushWindow: Int? { get }

    /// Opens a pushed source for the request that arrived on this connection. Only one thread may call it at a time.
    func push() -> PushedConnection

    /// Returns the next event on the connection of a request without waiting: a pushed source, bytes, or the end.
    func takeEvent() -> ConnectionEvent

    /// As ``takeEvent()``, but waits if there is nothing.
    ///
    /// - Throws: as ``read(deadline:)``. Failures are thrown, not returned.
    nonisolated(nonsending) func nextEvent(deadline: ContinuousClock.Instant?) async throws -> ConnectionEvent

    /// Frees the memory that is reserved for pushed sources. Called after the peer has ended the request and its
    /// sources were accepted.
    func releaseGrant()

    // MARK: Ending

    /// Ends both directions without an error. The peer reads the bytes that were queued, then the end. Bytes from the
    /// peer are dropped. Does nothing if the local side has already ended the connection.
    func close()

    /// Ends both directions with a failure. The peer reads the bytes that were queued, then an error with this message.
    /// Does nothing if the local side has already ended the connection.
    ///
    /// - Parameter message: a text for the peer's user. At most 1,024 bytes of it are sent.
    func fail(_ message: String)

    /// As ``fail(_:)``, but drops the queued bytes. For a peer that does not read its bytes in time.
    func abort(_ message: String)
}

extension Connection {
    /// See ``ConnectionProgress/isPeerClosed``.
    package var isPeerClosed: Bool { progress.isPeerClosed }
}

/// A snapshot of a connection's state.
public struct ConnectionProgress: Sendable, Hashable {
    /// Whether writing is pointless because the peer closed or failed the connection, or the network between the ends
    /// broke. Default `false`.
    public var isPeerClosed: Bool
    /// Whether this is a pushed source that the peer has not accepted yet. Default `false`.
    public var isUnaccepted: Bool
    /// Whether the peer has accepted this pushed source. Default `true`, also for a connection that was dialled.
    public var wasAccepted: Bool

    public init(isPeerClosed: Bool = false, isUnaccepted: Bool = false, wasAccepted: Bool = true) {
        self.isPeerClosed = isPeerClosed
        self.isUnaccepted = isUnaccepted
        self.wasAccepted = wasAccepted
    }
}

/// The result of ``Connection/take()``.
public enum ReceivedBytes: Sendable {
    case bytes(ByteBuffer)
    /// Nothing has arrived since the last call.
    case nothing
    /// The peer has ended its direction.
    case finished
    case failed(ConnectionError)
}

/// The result of ``Connection/push()``.
public enum PushedConnection: Sendable {
    case opened(any Connection)
    /// The number of sources that the peer has not accepted has reached the grant. The delegate of the request's
    /// connection is called when the peer accepts one.
    case grantExhausted
    /// The peer accepts no pushed sources.
    case notGranted
    /// The request has ended.
    case ended
}

/// The next event on the connection of a request.
public enum ConnectionEvent: Sendable {
    case pushed(any Connection)
    /// Announcement bytes: the server announces its sources by name.
    case bytes(ByteBuffer)
    case finished
    case failed(ConnectionError)
    /// Nothing has arrived since the last call.
    case nothing
}

/// The clock, timers, random numbers and task executor of a network: those of the system, or of a simulation.
public struct NetworkEnvironment: Sendable {
    /// Returns the current time.
    public var now: @Sendable () -> ContinuousClock.Instant
    /// Returns an unpredictable number.
    public var random: @Sendable () -> UInt64
    /// Runs a closure at an instant, on any thread. The closure must return at once. Returns a function that cancels
    /// the call.
    public var schedule: @Sendable (ContinuousClock.Instant, @escaping @Sendable () -> Void) -> @Sendable () -> Void
    /// The executor of the tasks that this library starts; `nil` for Swift's default pool.
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

    /// The system's clock and random numbers, and Swift's default pool.
    public static let system = NetworkEnvironment(
        now: { .now }, random: { .random(in: 0...UInt64.max) },
        schedule: { instant, body in
            let task = Task {
                // The sleep throws only if the timer is cancelled.
                do { try await Task.sleep(until: instant, clock: .continuous) } catch { return }
                body()
            }
            return { task.cancel() }
        })
}

/// The addresses of a connection's two ends.
public struct ConnectionAddresses: Sendable, Hashable {
    /// The local address, e.g. `EjRWeBI0VngA:16777217`.
    public var local: String
    /// The address of the peer.
    public var remote: String
    /// The name of the network at both ends, e.g. `astranet`; empty if the network has none.
    public var network: String

    public init(local: String, remote: String, network: String) {
        self.local = local
        self.remote = remote
        self.network = network
    }
}

/// The failure of an operation of a ``Multiplexer``, a ``Binding`` or a ``Connection``.
public struct ConnectionError: Error, Sendable, Hashable {
    /// The kind of failure. Later versions may add more.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        public let description: String

        /// The name is already bound.
        public static let addressInUse = Code(description: "address in use")
        /// No node offers the name.
        public static let notFound = Code(description: "not found")
        /// The peer refused the connection.
        public static let refused = Code(description: "refused")
        /// The peer's application reported a failure. The message is the text that it sent.
        public static let failedByPeer = Code(description: "failed by peer")
        /// The peer reads no more bytes.
        public static let closedByPeer = Code(description: "closed by peer")
        /// The network connection between the two ends broke.
        public static let connectionLost = Code(description: "connection lost")
        /// A deadline passed.
        public static let deadlineExceeded = Code(description: "deadline exceeded")
        /// The local side closed the connection, the binding or the multiplexer.
        public static let closed = Code(description: "closed")
        /// The peer violated the protocol of the multiplexer.
        public static let protocolViolation = Code(description: "protocol violation")
        /// A local limit was reached.
        public static let limitReached = Code(description: "limit reached")
    }

    /// The kind of failure.
    public var code: Code
    /// A description for people. For `failedByPeer` it is the text that the peer sent.
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}

extension ConnectionError: CustomStringConvertible {
    public var description: String { message.isEmpty ? code.description : "\(code): \(message)" }
}
