public import AstraNet
public import Chanserv
public import NIOCore

/// An AstraNet node as the network of chanserv servers and clients.
///
/// ```swift
/// let client = Client(multiplexer: AstraNetMultiplexer(node))
/// ```
public struct AstraNetMultiplexer: Multiplexer {
    /// The node whose services are bound and dialled. Its owner joins, listens and shuts down.
    public let node: Node

    public init(_ node: Node) {
        self.node = node
    }

    public var executor: (any TaskExecutor)? { node.executor }

    public func bind(_ name: String, visibleTo peer: (any Connection)?) throws -> any ConnectionListener {
        do {
            return try node.bind(name, visibleTo: peer as? AstraNet.Stream, answersSoon: true)
        } catch {
            throw ConnectionError(error)
        }
    }

    public func dial(
        _ name: String, bucket: String?, deadline: ContinuousClock.Instant
    ) async throws -> any Connection {
        try await mapping { try await node.dial(name, bucket: bucket, deadline: deadline) }
    }

    /// What is sent along with a dial at most, in bytes: no more than every stream's first credit (`docs/protocol.md` §4).
    private static let longestFirst = 60_000

    public func dial(
        _ name: String, bucket: String?, sending first: ByteBuffer, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Connection, isSent: Bool) {
        guard first.readableBytes <= Self.longestFirst else {
            return (try await dial(name, bucket: bucket, deadline: deadline), false)
        }
        let stream = try await mapping {
            try await node.dial(name, bucket: bucket, sending: first, deadline: deadline)
        }
        return (stream, true)
    }

    public func dial(
        _ name: String, learntFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection {
        try await mapping { try await node.dial(name, learntFrom: peer as? AstraNet.Stream, deadline: deadline) }
    }
}

extension Listener: ConnectionListener {
    public func accept(deadline: ContinuousClock.Instant?) async throws -> any Connection {
        let stream: AstraNet.Stream = try await mapping { try await self.nextStream(deadline: deadline) }
        return stream
    }
}

extension AstraNet.Stream: Connection {
    public var addresses: ConnectionAddresses {
        ConnectionAddresses(
            local: localAddress.description, remote: remoteAddress.description, network: "astranet")
    }

    public func read(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer? {
        try await mapping { try await self.receive(deadline: deadline) }
    }

    public func read(
        _ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?
    ) async throws -> Int {
        do {
            return try await receive(count, into: &buffer, deadline: deadline)
        } catch let error as AstraNetError {
            throw ConnectionError(error)
        }
    }

    public func write(_ bytes: ByteBuffer, deadline: ContinuousClock.Instant?) async throws {
        try await mapping { try await self.send(bytes, deadline: deadline) }
    }

    public func onPeerClosed(_ body: @escaping @Sendable () -> Void) {
        onPeerGone(body)
    }
}

/// Runs `body` and throws its AstraNet errors as chanserv's.
private nonisolated(nonsending) func mapping<Value>(
    _ body: nonisolated(nonsending) () async throws -> Value
) async throws -> Value {
    do {
        return try await body()
    } catch let error as AstraNetError {
        throw ConnectionError(error)
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
