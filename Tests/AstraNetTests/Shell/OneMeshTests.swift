import AstraNet
import NIOCore
import Testing

/// Hosts of this library and Go-like hosts on one mesh with a router of either kind. All reach all, and the loss of one
/// affects no others.
@Suite(.serialized, .timeLimit(.minutes(5))) struct OneMeshTests {
    private static let body = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

    @Test(arguments: OneMesh.RouterKind.allCases)
    func `every client reaches every service through the router and directly`(kind: OneMesh.RouterKind) async throws {
        let mesh = try await OneMesh(kind)
        for name in mesh.names {
            for client in [mesh.direct, mesh.routed] {
                #expect(try await client.post(name, Self.body) == name)
                let stream = try await client.dial("echo-\(name)", deadline: .testDeadline)
                let peer = try #require(stream.link.peer?.host)
                #expect((peer == stream.remoteAddress.host) == (client === mesh.direct))
                try await stream.expectEcho(count: 200_000)
                stream.close()
            }
            #expect(try await mesh.goRouted.ask(name, Self.body) == name)
        }
        for (client, server) in zip(mesh.goDirect, mesh.ourServers) {
            #expect(try await client.ask(server.name, Self.body) == server.name)
        }
        #expect(mesh.broken == [])
        try await mesh.end()
    }

    enum Member: String, CaseIterable { case goServer, ourServer, router, client }

    /// An open stream of a client of this library that has carried bytes in both directions.
    private struct Running {
        var server: String
        var isRouted: Bool
        var stream: AstraNet.MeshStream
    }

    @Test(arguments: OneMesh.RouterKind.allCases, Member.allCases)
    func `a lost host ends exactly the streams that use it`(kind: OneMesh.RouterKind, victim: Member) async throws {
        let mesh = try await OneMesh(kind)
        var running: [Running] = []
        var goStreams: [(server: String, stream: GoLikeStream)] = []
        for name in mesh.names {
            for client in [mesh.direct, mesh.routed] {
                let stream = try await client.dial("echo-\(name)", deadline: .testDeadline)
                try await stream.expectEcho(count: 1_000)
                running.append(Running(server: name, isRouted: client === mesh.routed, stream: stream))
            }
            let stream = try #require(await mesh.goRouted.dial("echo-\(name)"))
            try await stream.expectEcho(count: 1_000)
            goStreams.append((name, stream))
        }

        let isLost: (_ server: String, _ isRouted: Bool) -> Bool
        switch victim {
        case .goServer:
            try await mesh.goServers[0].kill()
            isLost = { server, _ in server == "go-1" }
        case .ourServer:
            await mesh.ourServers[0].kill()
            isLost = { server, _ in server == "ours-1" }
        case .router:
            try await mesh.killRouter()
            isLost = { _, isRouted in isRouted }
        case .client:
            await mesh.direct.shutdown(grace: .zero)
            isLost = { _, isRouted in !isRouted }
        }

        for running in running {
            if isLost(running.server, running.isRouted) {
                // After the shutdown of the local node the code is `closed`.
                let code: AstraNetError.Code = victim == .client ? .closed : .linkLost
                #expect(await running.stream.failure()?.code == code, "\(running)")
            } else {
                try await running.stream.expectEcho(count: 1_000)
            }
        }
        for (server, stream) in goStreams {
            if isLost(server, true) {
                await #expect(throws: GoLikeStream.LinkGone.self) { _ = try await stream.read(1) }
            } else {
                try await stream.expectEcho(count: 1_000)
            }
        }

        // New requests reach a remaining host at once, even if a lost host offered the same name.
        var clients: [Node] = []
        if victim != .client { clients.append(mesh.direct) }
        if victim != .router { clients.append(mesh.routed) }
        for client in clients {
            for _ in 0..<5 {
                let (go, ours) = (try await client.post("go", [1]), try await client.post("ours", [2]))
                #expect(victim == .goServer ? go == "go-2" : go.hasPrefix("go-"))
                #expect(victim == .ourServer ? ours == "ours-2" : ours.hasPrefix("ours-"))
            }
        }
        #expect(mesh.broken == [])
        try await mesh.end(isRouterAlive: victim != .router)
    }
}
