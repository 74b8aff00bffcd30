public import AstraNet
public import Chanserv
public import NIOCore

/// Adapts an AstraNet node to the network protocol of chanserv servers and clients.
///
/// ```swift
/// let client = Client(multiplexer: AstraNetMultiplexer(node))
/// ```
public struct AstraNetMultiplexer: Multiplexer {
    /// The node on which services are bound and dialled. The owner of the node joins, listens and shuts it down.
    public let node: Node
    public let surroundings: NetworkEnvironment

    public init(_ node: Node) {
        self.node = node
        surroundings = NetworkEnvironment(
            now: node.now, random: node.random, schedule: { [node] instant, body in node.schedule(at: instant, body) },
            executor: node.taskExecutor)
    }

    public func bind(
        _ name: String, visibleTo peer: (any Connection)?,
        onConnection: @escaping @Sendable (any Connection) -> DialAnswer
    ) throws(ConnectionError) -> any Binding {
        do throws(AstraNetError) {
            return try node.bind(name, visibleTo: peer as? AstraNet.MeshStream, answersSoon: true) { stream in
                switch onConnection(stream) {
                case .accepted: .accepted
                case .refused(let message): .refused(message)
                }
            }
        } catch {
            throw ConnectionError(error)
        }
    }

    /// Maximum bytes that are sent with a dial. They must fit into the initial window of a stream, 65,536 bytes
    /// (`docs/protocol.md` §4).
    private static let longestFirst = 60_000

    public nonisolated(nonsending) func dial(
        _ name: String, _ options: DialOptions, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Connection, isSent: Bool) {
        let isSent = options.first.readableBytes <= Self.longestFirst
        let request = DialRequest(
            bucket: options.bucket, first: isSent ? options.first : ByteBuffer(),
            texts: DialBlock.Texts.of(
                meta: options.context.meta, bucket: options.context.bucket, traceParent: options.context.traceParent),
            deadline: options.context.deadline, maximumPushedSources: options.maximumPushedSources,
            repeats: options.repeats)
        do {
            return (try await node.dial(name, request, deadline: deadline), isSent)
        } catch let error as AstraNetError {
            throw ConnectionError(error)
        }
    }

    public nonisolated(nonsending) func dial(
        _ name: String, receivedFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection {
        do {
            return try await node.dial(name, DialRequest(peer: peer as? AstraNet.MeshStream), deadline: deadline)
        } catch let error as AstraNetError {
            throw ConnectionError(error)
        }
    }

    public func dialNow(
        _ name: String, receivedFrom peer: any Connection, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Connection)? {
        do throws(AstraNetError) {
            return try node.dialNow(
                name, DialRequest(peer: peer as? AstraNet.MeshStream), delegate: StreamEvents(delegate))
        } catch {
            throw ConnectionError(error)
        }
    }

    /// Dials a name that some node offers now. Does not wait for the answer, which is reported to `delegate`.
    ///
    /// - Returns: the connection; `nil` if no node offers the name.
    package func requestNow(
        _ name: String, _ options: DialOptions, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Connection)? {
        let request = DialRequest(
            first: options.first, deadline: options.context.deadline,
            maximumPushedSources: options.maximumPushedSources)
        do throws(AstraNetError) {
            return try node.dialNow(name, request, delegate: StreamEvents(delegate))
        } catch {
            throw ConnectionError(error)
        }
    }
}

extension Listener: Binding {
    public func refuseDials(_ body: @escaping Chanserv.DialRefusal) {
        refuseDials { (stream: AstraNet.MeshStream) in body(stream) }
    }
}

extension RepeatBudget: DialRepeats {}

/// Forwards the events of a stream to a connection delegate.
private final class StreamEvents: StreamDelegate {
    private let delegate: any ConnectionDelegate

    init(_ delegate: any ConnectionDelegate) { self.delegate = delegate }

    func streamChanged(_ stream: AstraNet.MeshStream) { delegate.connectionChanged() }
}

extension AstraNet.MeshStream: Connection {
    public var addresses: ConnectionAddresses {
        ConnectionAddresses(
            local: localAddress.description, remote: remoteAddress.description, network: "astranet")
    }

    public var peerDescription: String { remoteAddress.description }

    public var progress: ConnectionProgress {
        let (isPeerClosed, isUnaccepted, wasAccepted) = pushProgress
        return ConnectionProgress(isPeerClosed: isPeerClosed, isUnaccepted: isUnaccepted, wasAccepted: wasAccepted)
    }

    public var caller: Caller {
        let identity = callerIdentity
        return Caller(identity: identity.name, names: identity.identities)
    }

    public var peerAddress: String { peerSocketAddress }

    public func takeContext() -> RequestContext {
        let identity = callerIdentity.name
        let dial = takeDial()
        var context = RequestContext(
            deadline: dial?.deadline, meta: dial?.block.meta, bucket: dial?.block.bucket,
            traceParent: dial?.block.traceParent, peerAddress: peerSocketAddress, identity: identity)
        context.readsErrors = dial?.block.isOfDialer ?? false || understandsErrors
        return context
    }

    public func setDelegate(_ delegate: (any ConnectionDelegate)?) {
        setDelegate(delegate.map { StreamEvents($0) } as (any StreamDelegate)?)
    }

    public func take() -> ReceivedBytes {
        switch takeReceived() {
        case .bytes(let bytes): .bytes(bytes)
        case .nothing: .nothing
        case .finished: .finished
        case .failed(let error): .failed(ConnectionError(error))
        }
    }

    public func write(_ bytes: ByteBuffer) throws(ConnectionError) -> Bool {
        do throws(AstraNetError) {
            return try send(now: bytes)
        } catch {
            throw ConnectionError(error)
        }
    }

    public nonisolated(nonsending) func read(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer? {
        do {
            return try await receive(deadline: deadline)
        } catch let error as AstraNetError {
            throw ConnectionError(error)
        }
    }

    public nonisolated(nonsending) func read(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?
    ) async throws -> Int {
        do {
            return try await receive(count, into: &buffer, deadline: deadline)
        } catch let error as AstraNetError {
            throw ConnectionError(error)
        }
    }

    public nonisolated(nonsending) func waitForRoom(deadline: ContinuousClock.Instant?) async throws {
        do {
            try await waitUntilCapacity(deadline: deadline)
        } catch let error as AstraNetError {
            throw ConnectionError(error)
        }
    }

    public nonisolated(nonsending) func opened(deadline: ContinuousClock.Instant) async throws {
        do {
            try await waitUntilOpen(deadline: deadline)
        } catch let error as AstraNetError {
            throw ConnectionError(error)
        }
    }

    public func push() -> PushedConnection {
        switch pushSource() {
        case .opened(let stream): .opened(stream)
        case .grantExhausted: .grantExhausted
        case .notGranted: .notGranted
        case .ended: .ended
        }
    }

    public func takeEvent() -> ConnectionEvent { ConnectionEvent(takeMasterEvent()) }

    public nonisolated(nonsending) func nextEvent(
        deadline: ContinuousClock.Instant?
    ) async throws -> ConnectionEvent {
        do {
            let event = ConnectionEvent(try await nextMasterEvent(deadline: deadline))
            if case .failed(let error) = event { throw error }
            return event
        } catch let error as AstraNetError {
            throw ConnectionError(error)
        }
    }
}

extension ConnectionEvent {
    fileprivate init(_ event: AstraNet.MeshStream.MasterEvent) {
        switch event {
        case .pushed(let stream): self = .pushed(stream)
        case .bytes(let bytes): self = .bytes(bytes)
        case .finished: self = .finished
        case .failed(let error): self = .failed(ConnectionError(error))
        case .nothing: self = .nothing
        }
    }
}

extension ConnectionError {
    fileprivate init(_ error: AstraNetError) {
        let code: Code =
            switch error.code {
            case .serviceInUse: .addressInUse
            case .noOffer: .notFound
            case .refused: .refused
            case .failedByPeer: .failedByPeer
            case .closedByPeer: .closedByPeer
            case .deadlineExceeded: .deadlineExceeded
            case .closed: .closed
            case .protocolViolation: .protocolViolation
            case .limitReached: .limitReached
            default: .connectionLost
            }
        self.init(code, error.message)
    }
}
