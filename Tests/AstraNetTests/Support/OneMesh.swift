import AstraNet
import Chanserv
import ChanservAstraNet
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// A Go-like server with a link to a router and a listening socket for direct links. It has one host id on all links.
final class GoLikeServer: Sendable {
    let host = HostID.random()
    let name: String
    private let listener: RawListener
    private let peers = NIOLockedValueBox<[GoLikePeer]>([])
    private let work = NIOLockedValueBox<Task<Void, any Error>?>(nil)

    /// The protocol violations on all links.
    var broken: [String] { peers.withLockedValue { $0.flatMap(\.broken) } }

    init(_ name: String, joining router: SocketAddress) async throws {
        self.name = name
        listener = try await RawPeer.listen(host: host)
        let port = listener.port
        let routed = try await GoLikePeer.join(router, host: host, behindRouter: true, follows: port)
        let task = Task { [listener] in
            try await withThrowingDiscardingTaskGroup { group in
                group.addTask { try await self.serve(routed) }
                while let raw = await listener.peers.next() {
                    let peer = GoLikePeer.accept(raw, follows: port)
                    group.addTask { try await self.serve(peer) }
                }
            }
        }
        work.withLockedValue { $0 = task }
    }

    private func serve(_ peer: GoLikePeer) async throws {
        peers.withLockedValue { $0.append(peer) }
        let (_, echoes) = peer.bind("echo-\(name)")
        try await withThrowingDiscardingTaskGroup { group in
            for service in [name, "go"] {
                group.addTask {
                    try await peer.serve(service) { [PlainSource(header: Array(self.name.utf8), frames: [$0])] }
                }
            }
            group.addTask {
                try await withThrowingDiscardingTaskGroup { streams in
                    while let stream = await echoes.next() {
                        streams.addTask {
                            do {
                                while case let bytes = try await stream.read(65_536), !bytes.isEmpty {
                                    try await stream.write(bytes)
                                }
                            } catch is GoLikeStream.LinkGone {
                                return
                            } catch is GoLikeStream.StoppedByPeer {
                                // The test checks the end of the client.
                            }
                            stream.close()
                        }
                    }
                }
            }
        }
    }

    /// Breaks all links at once. A second call does nothing.
    func kill() async throws {
        guard let task = work.withLockedValue({ $0.take() }) else { return }
        try await listener.close()
        listener.peers.finish()
        for peer in peers.withLockedValue({ $0 }) { await peer.close() }
        try await task.value
    }
}

/// A server of this library: chanserv services and an echo service on a node that listens.
struct OurServer {
    let node = Node.withoutTimeouts(.server)
    let name: String
    let address: SocketAddress
    private let services: [VirtualService]
    private let echo: Listener

    init(_ name: String, joining router: SocketAddress) async throws {
        self.name = name
        address = try await node.listening()
        let server = Server(multiplexer: AstraNetMultiplexer(node), configuration: .withoutTimeouts)
        services = try [name, "ours"].map { service in
            try server.serve(service) { SourceList([Source(header: name, frames: [$0.body])]) }
        }
        echo = try node.echo("echo-\(name)")
        try await node.join(router)
    }

    func kill() async {
        await node.shutdown(grace: .zero)
        for service in services { service.stopAccepting() }
        echo.close()
    }
}

/// Two Go-like servers and two of this library at one router, with clients of both kinds, through the router and on
/// direct links.
struct OneMesh {
    enum RouterKind: String, CaseIterable { case ours, goLike }

    private enum Router {
        case ours(Node)
        case goLike(GoLikeRouter)
    }

    private let router: Router
    let goServers: [GoLikeServer]
    let ourServers: [OurServer]
    /// A client with links to all servers and to the router.
    let direct = Node.withoutTimeouts {
        $0.role = .client
        // A dial of a lost host must fail because the loss is detected, not by this timeout.
        $0.answerTimeout = .seconds(3_600)
    }
    /// A client with a link to the router alone: a node with the role `server` makes no other links.
    let routed = Node.withoutTimeouts {
        $0.role = .server
        $0.answerTimeout = .seconds(3_600)
    }
    let goRouted: GoLikePeer
    /// One Go-like client for each server of this library, with a direct link to it.
    let goDirect: [GoLikePeer]

    var names: [String] { goServers.map(\.name) + ourServers.map(\.name) }

    init(_ kind: RouterKind) async throws {
        let address: SocketAddress
        switch kind {
        case .ours:
            let node = Node.withoutTimeouts(.router)
            address = try await node.listening()
            router = .ours(node)
        case .goLike:
            let router = try await GoLikeRouter()
            address = try SocketAddress(ipAddress: "127.0.0.1", port: router.port)
            self.router = .goLike(router)
        }
        goServers = [
            try await GoLikeServer("go-1", joining: address), try await GoLikeServer("go-2", joining: address),
        ]
        ourServers = [
            try await OurServer("ours-1", joining: address), try await OurServer("ours-2", joining: address),
        ]
        try await direct.join(address)
        try await routed.join(address)
        goRouted = try await GoLikePeer.join(address, behindRouter: true)
        var peers: [GoLikePeer] = []
        for server in ourServers { peers.append(try await GoLikePeer.join(server.address)) }
        goDirect = peers
        let hosts = Set(goServers.map(\.host) + ourServers.map(\.node.id))
        let (direct, routed) = (direct, routed)
        // Three names of each server, announced by the router and, on a direct link, by the server itself.
        try await eventually {
            let services = direct.listing.services
            return direct.peers.isSuperset(of: hosts) && services.count { $0.offer.isRelayed } == 12
                && services.count { !$0.offer.isRelayed } == 12 && routed.services.count == 12
        }
    }

    var broken: [String] {
        var broken = goServers.flatMap(\.broken) + goRouted.broken + goDirect.flatMap(\.broken)
        if case .goLike(let router) = router { broken += router.broken }
        return broken
    }

    func killRouter() async throws {
        switch router {
        case .ours(let node): await node.shutdown(grace: .zero)
        case .goLike(let router): try await router.close()
        }
    }

    /// - Parameter isRouterAlive: `false` if the test has already closed the router.
    func end(isRouterAlive: Bool = true) async throws {
        for node in [direct, routed] { await node.shutdown() }
        for peer in [goRouted] + goDirect { await peer.close() }
        for server in ourServers { await server.kill() }
        for server in goServers { try await server.kill() }
        if isRouterAlive { try await killRouter() }
    }
}

extension Node {
    /// Posts a request and checks the answer. Returns the name of the server that answered.
    func post(_ name: String, _ body: [UInt8]) async throws -> String {
        let client = Client(multiplexer: AstraNetMultiplexer(self), configuration: .withoutTimeouts)
        let sources = try await GoInteropTests.read(
            try await client.lookupAndPost(name, body: ByteBuffer(bytes: body)))
        let source = try #require(sources.first)
        #expect(sources == [PlainSource(header: source.header, frames: [body])])
        return String(decoding: source.header, as: UTF8.self)
    }
}

extension GoLikePeer {
    /// Posts a request as ``AstraNet/Node/post(_:_:)`` does.
    func ask(_ name: String, _ body: [UInt8]) async throws -> String {
        let sources = try await post(name, body)
        let source = try #require(sources.first)
        #expect(sources == [PlainSource(header: source.header, frames: [body])])
        return String(decoding: source.header, as: UTF8.self)
    }
}

extension GoLikeStream {
    /// Writes `count` bytes and checks that the peer sends them back.
    func expectEcho(count: Int, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let sent = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        try await write(sent)
        var received: [UInt8] = []
        while received.count < count {
            let more = try await read(count - received.count)
            guard !more.isEmpty else { break }
            received += more
        }
        #expect(received == sent, sourceLocation: sourceLocation)
    }
}
