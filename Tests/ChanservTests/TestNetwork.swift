import ChanservAstraNet
import Logging
import NIOCore
import Testing

@testable import AstraNet
@testable import Chanserv

/// How the sources of a request reach the client.
enum Delivery: String, CaseIterable, CustomTestStringConvertible {
    /// By name, within the process.
    case memory
    /// Pushed, from one AstraNet node to another.
    case pushed
    /// By name, between two AstraNet nodes.
    case named

    var testDescription: String { rawValue }
}

/// A network with a server's and a client's end.
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
        try await client.join(host: "127.0.0.1", port: #require(address.port), deadline: .soon)
        return TestNetwork(delivery, .nodes(server: server, client: client))
    }

    private init(_ delivery: Delivery, _ kind: Kind) {
        self.delivery = delivery
        self.kind = kind
    }

    deinit {
        guard case .nodes(let server, let client) = kind else { return }
        // After the test: nothing waits for it.
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

    /// The names that are bound at the server's end.
    var names: Set<String> {
        switch kind {
        case .memory(let network): network.names
        case .nodes(let server, _): Set(server.core.shared.withLockedValue { $0.bound.portsByName.keys })
        }
    }

    /// Waits until no connection is left, and nothing is counted for one.
    func expectNothingLeft(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        switch kind {
        case .memory(let network): #expect(network.connectionCount == 0, sourceLocation: sourceLocation)
        case .nodes(let server, let client):
            try await client.expectNothingLeft(sourceLocation)
            try await server.expectNothingLeft(sourceLocation)
        }
    }

    /// Breaks the way between the two ends.
    func breakConnections() {
        switch kind {
        case .memory(let network): network.breakConnections()
        case .nodes(_, let client): for link in client.links { link.channel.close(promise: nil) }
        }
    }

    /// Ends the server's end: names are withdrawn, connections lost, and nothing can be bound any more.
    func shutDown() async {
        switch kind {
        case .memory(let network): network.shutDown()
        case .nodes(let server, _): await server.shutdown(grace: .zero)
        }
    }
}

extension Node {
    /// The links that are up.
    fileprivate var links: [Link] { core.shared.withLockedValue { Array($0.links.up.values) } }

    /// Waits until no link knows a stream, and nothing is counted for one.
    fileprivate func expectNothingLeft(_ sourceLocation: SourceLocation) async throws {
        let deadline = ContinuousClock.Instant.soon
        while true {
            var left: [String] = []
            for link in links {
                // The event loop's turn, too.
                let known = try await link.eventLoop.submit { link.handler.value?.streams.count ?? 0 }.get()
                let counts = (known, link.takenStreamPlaces, link.pushGrants.held, link.buffered.held)
                if counts != (0, 0, 0, 0) { left.append("streams, places, grants, bytes: \(counts)") }
            }
            if left.isEmpty { return }
            try #require(.now < deadline, "\(left)", sourceLocation: sourceLocation)
            await Task.yield()
        }
    }
}

// MARK: - One side of the protocol, played by a test

/// Accepts the connections of a name.
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

    /// The next connection. One task at a time.
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

    /// Dials `name` as a client that takes no pushed sources.
    func dial(_ name: String, deadline: ContinuousClock.Instant) async throws -> any Connection {
        try await dial(name, DialOptions(), deadline: deadline).connection
    }
}

extension Connection {
    /// Queues `bytes`, and waits until there is room for more.
    func write(_ bytes: ByteBuffer, deadline: ContinuousClock.Instant?) async throws {
        if try !write(bytes) { try await waitForRoom(deadline: deadline) }
    }
}
