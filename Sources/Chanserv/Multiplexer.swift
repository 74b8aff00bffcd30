public import NIOCore

/// What chanserv needs of a network: names that can be bound and dialled, and connections between them.
///
/// AstraNet's node conforms through `AstraNetMultiplexer` (library ChanservAstraNet); `InMemoryMultiplexer` is for tests
/// and for a client and a server in one process. Every failure is thrown as a ``ConnectionError``.
public protocol Multiplexer: Sendable {
    /// Where tasks run that mostly wait for connections of this network and do little when something comes, e.g. its event
    /// loops, so that no other thread need be woken for them. `nil`, the default: Swift's own pool.
    ///
    /// Clients and servers run no code of their users there but the callbacks of their configurations.
    var executor: (any TaskExecutor)? { get }

    /// Binds `name` and announces it, so that it can be dialled from now on.
    ///
    /// - Parameters:
    ///   - name: the virtual address, without an environment suffix (the multiplexer appends its own).
    ///   - peer: announce the name only where this connection came from (a source's random name concerns nobody else);
    ///     `nil` announces it everywhere.
    /// - Throws: ``ConnectionError`` with code `addressInUse`, or `closed` after a shutdown.
    func bind(_ name: String, visibleTo peer: (any Connection)?) throws -> any ConnectionListener

    /// Opens a connection to some host that offers `name`, waiting for an offer if there is none yet.
    ///
    /// - Parameters:
    ///   - name: the virtual address.
    ///   - bucket: the same bucket goes to the same offer for as long as the set of offers stays the same; `nil` picks
    ///     at random.
    ///   - deadline: when to give up.
    /// - Throws: ``ConnectionError`` with code `notFound` where nobody offers the name by the deadline,
    ///   `deadlineExceeded` where the host that does did not answer, or `CancellationError`.
    func dial(_ name: String, bucket: String?, deadline: ContinuousClock.Instant) async throws -> any Connection

    /// As ``dial(_:bucket:deadline:)``, with what is to be said first: a network that can sends it along, which saves waiting
    /// for the other end before it is sent. By default it is left to the caller, as it is where there is too much of it.
    ///
    /// - Parameters:
    ///   - name: the virtual address.
    ///   - bucket: as above.
    ///   - first: the bytes.
    ///   - deadline: when to give up.
    /// - Returns: the connection, and whether `first` is queued on it already; where not, it is for the caller to write.
    /// - Throws: as ``dial(_:bucket:deadline:)``, and ``ConnectionError`` with code `connectionLost` or `deadlineExceeded`
    ///   where some host may have heard `first`, which is then told to no other one.
    func dial(
        _ name: String, bucket: String?, sending first: ByteBuffer, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Connection, isSent: Bool)

    /// Opens a connection to a name that was learnt from a peer (a source's random name), waiting for an offer for as long
    /// as the way to that peer is there. By default as ``dial(_:bucket:deadline:)``, whatever becomes of the peer.
    ///
    /// - Parameters:
    ///   - name: the name.
    ///   - peer: the connection on which it came, which may have ended since.
    ///   - deadline: when to give up.
    /// - Throws: as ``dial(_:bucket:deadline:)``, and ``ConnectionError`` with code `connectionLost` as soon as nobody
    ///   offers the name and the way to the peer is gone.
    func dial(
        _ name: String, learntFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection
}

extension Multiplexer {
    public var executor: (any TaskExecutor)? { nil }

    public func dial(
        _ name: String, bucket: String?, sending first: ByteBuffer, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Connection, isSent: Bool) {
        (try await dial(name, bucket: bucket, deadline: deadline), false)
    }

    public func dial(
        _ name: String, learntFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection {
        try await dial(name, bucket: nil, deadline: deadline)
    }
}

/// A bound name, from which accepted connections come.
public protocol ConnectionListener: Sendable {
    /// The next connection, in the order in which they came. Cancellation ends the wait with `CancellationError`.
    ///
    /// - Parameter deadline: when to give up, `nil` for never.
    /// - Throws: ``ConnectionError`` with code `deadlineExceeded`, or `closed` once the listener is closed.
    func accept(deadline: ContinuousClock.Instant?) async throws -> any Connection

    /// Withdraws the name. Connections that came before can still be accepted; after the last of them ``accept(deadline:)``
    /// throws `closed`. By default as ``close()``, for a network where none wait.
    func finish()

    /// Withdraws the name and refuses connections that were not accepted yet. Repeating it does nothing. Connections
    /// accepted before go on.
    func close()
}

extension ConnectionListener {
    public func finish() { close() }
}

/// A connection: a stream of bytes in each direction, with flow control, whose directions end separately.
///
/// One task may read while another writes; two reads (or two writes) at the same time are a programming error.
/// A connection must be ended with ``close()``, ``fail(_:)`` or ``abort(_:)``, whatever happened before.
public protocol Connection: Sendable {
    /// Where the two ends are, in the network's own notation.
    var addresses: ConnectionAddresses { get }

    /// All the bytes that came since the last read, waiting while there are none; `nil` once the peer said that there
    /// are no more. Taking them gives the peer its credit back. Cancellation ends the wait with `CancellationError`.
    ///
    /// - Throws: ``ConnectionError`` with code `failedByPeer` (after what was sent before it), `connectionLost`,
    ///   `deadlineExceeded` (the connection stays usable), or `closed`.
    func read(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer?

    /// Appends bytes to `buffer` until there are `count` more, waiting for them: for a reader that knows how much it waits for,
    /// and need not be woken for less. Bytes that came stay in `buffer` where this throws.
    ///
    /// - Parameters:
    ///   - count: how many bytes, at least 1.
    ///   - buffer: where to.
    ///   - deadline: when to give up, `nil` for never.
    /// - Returns: how many came: `count`, or fewer where the peer said that there are no more.
    /// - Throws: as ``read(deadline:)``.
    func read(_ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?) async throws -> Int

    /// Queues `bytes`; returns when the connection has room for more, at once as a rule, or waits for the peer to take
    /// some. Cancellation ends the wait with `CancellationError`; the bytes stay queued.
    ///
    /// - Throws: ``ConnectionError`` with code `closedByPeer` (the peer wants no more), `failedByPeer`,
    ///   `connectionLost`, `deadlineExceeded`, or `closed`.
    func write(_ bytes: ByteBuffer, deadline: ContinuousClock.Instant?) async throws

    /// Ends both directions well: the peer reads what was queued, then the end. What comes from the peer is dropped.
    /// Does nothing on a connection that has ended.
    func close()

    /// Ends both directions with a failure: the peer reads what was queued, then an error with this message.
    /// Does nothing on a connection that has ended.
    ///
    /// - Parameter message: for the peer's user, at most 1,024 bytes of it are sent.
    func fail(_ message: String)

    /// As ``fail(_:)``, without what is queued: for a peer that does not take its bytes in time, which would otherwise hold
    /// them for as long as it likes.
    func abort(_ message: String)

    /// Calls `body` once, from any thread, when the peer has ended the connection in a way that makes writing
    /// pointless (it closed, failed, or the link broke), at once if that has already happened. It is not called for
    /// this end's own ``close()``, ``fail(_:)`` or ``abort(_:)``, which drop `body`. At most one `body` can be set.
    func onPeerClosed(_ body: @escaping @Sendable () -> Void)
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
