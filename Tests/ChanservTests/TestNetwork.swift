import AstraNet
import Chanserv
import ChanservAstraNet
import Logging
import NIOCore
import Testing

/// How the sources of a request reach the client.
enum Delivery: String, CaseIterable, CustomTestStringConvertible {
    /// Named sources on a network inside the process.
    case memory
    /// Pushed sources between two AstraNet nodes.
    case pushed
    /// Named sources between two AstraNet nodes.
    case named

    var testDescription: String { rawValue }
}

/// A network between a server and a client.
final class TestNetwork: Sendable {
    private enum Kind {
        case memory(InMemoryMultiplexer)
        case nodes(server: Node, client: Node)
    }

    let delivery: Delivery
    private let kind: Kind

    static func make(_ delivery: Delivery, window: Int = 65_536) async throws -> TestNetwork {
        guard delivery != .memory else {
            return TestNetwork(delivery, .memory(InMemoryMultiplexer(window: window)))
        }
        let logger = Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() }
        let (server, client) = (Node(logger: logger), Node(logger: logger))
        let address = try await server.listen(host: "127.0.0.1", port: 0)
        try await client.join(host: "127.0.0.1", port: #require(address.port), deadline: .testDeadline)
        return TestNetwork(delivery, .nodes(server: server, client: client))
    }

    private init(_ delivery: Delivery, _ kind: Kind) {
        self.delivery = delivery
        self.kind = kind
    }

    deinit {
        guard case .nodes(let server, let client) = kind else { return }
        // The test is over and does not wait for the shutdown.
        Task {
            await client.shutdown(grace: .zero)
            await server.shutdown(grace: .zero)
        }
    }

    var server: any Multiplexer {
        switch kind {
        case .memory(let network): network
        case .nodes(let server, _): AstraNetMultiplexer(server)
        }
    }

    var client: any Multiplexer {
        switch kind {
        case .memory(let network): network
        case .nodes(_, let client): AstraNetMultiplexer(client)
        }
    }

    /// The names that are bound at the server.
    var names: Set<String> {
        switch kind {
        case .memory(let network): network.names
        case .nodes(let server, _): server.core.directory.boundNames
        }
    }

    /// Checks that no connection is left. For nodes it waits at most two minutes until no resource of a stream is held.
    func expectNothingLeft(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        switch kind {
        case .memory(let network): #expect(network.connectionCount == 0, sourceLocation: sourceLocation)
        case .nodes(let server, let client):
            try await client.expectNothingLeft(sourceLocation)
            try await server.expectNothingLeft(sourceLocation)
        }
    }

    /// Breaks the connections between server and client.
    func breakConnections() {
        switch kind {
        case .memory(let network): network.breakConnections()
        case .nodes(_, let client): for link in client.links { link.channel.close(promise: nil) }
        }
    }

    /// Shuts the server's side down: its names are withdrawn, its connections are lost, and no name can be bound.
    func shutDown() async {
        switch kind {
        case .memory(let network): network.shutDown()
        case .nodes(let server, _): await server.shutdown(grace: .zero)
        }
    }
}

extension Node {
    /// The links that are up.
    fileprivate var links: [Link] { core.directory.links }

    /// Waits until no link has a stream, a reserved stream place, a push grant or a buffered byte.
    fileprivate func expectNothingLeft(_ sourceLocation: SourceLocation) async throws {
        let deadline = ContinuousClock.Instant.testDeadline
        while true {
            var left: [String] = []
            for link in links {
                // The stream table belongs to the event loop.
                let known = try await link.eventLoop.submit { link.handler.value?.streams.count ?? 0 }.get()
                let counts = (known, link.reservedStreamSlots, link.pushGrants.held, link.buffered.held)
                if counts != (0, 0, 0, 0) { left.append("streams, places, grants, bytes: \(counts)") }
            }
            if left.isEmpty { return }
            try #require(.now < deadline, "\(left)", sourceLocation: sourceLocation)
            await Task.yield()
        }
    }
}

// MARK: - One side of the protocol, driven by a test

/// Accepts the connections that clients dial to a name.
final class TestListener: Sendable {
    private let incoming: AsyncStream<any Connection>
    private let feed: AsyncStream<any Connection>.Continuation
    private let binding: any Binding

    init(_ network: any Multiplexer, _ name: String) throws {
        let (incoming, feed) = AsyncStream<any Connection>.makeStream()
        self.incoming = incoming
        self.feed = feed
        binding = try network.bind(name, visibleTo: nil) { connection in
            feed.yield(connection)
            return .accepted
        }
    }

    /// Returns the next connection. Only one task at a time may call it.
    func accept() async throws -> any Connection {
        var iterator = incoming.makeAsyncIterator()
        return try #require(await iterator.next())
    }

    func close() {
        binding.close()
        feed.finish()
    }
}

extension Multiplexer {
    func listen(_ name: String) throws -> TestListener { try TestListener(self, name) }

    /// Dials `name` as a client that accepts no pushed sources.
    func dial(_ name: String, deadline: ContinuousClock.Instant) async throws -> any Connection {
        try await dial(name, DialOptions(), deadline: deadline).connection
    }
}

extension Connection {
    /// Queues `bytes` and waits until the connection has room for more.
    func write(_ bytes: ByteBuffer, deadline: ContinuousClock.Instant?) async throws {
        if try !write(bytes) { try await waitForRoom(deadline: deadline) }
    }
}
