import AstraNet
import NIOCore
import Testing

/// The loss of one of two links between a host and a router.
///
/// The router and the far host do not know on which of the two links a stream was opened. A stream that ended at one
/// end only would stay open at the other for ever.
@Suite(.timeLimit(.minutes(5))) struct RouteLossTests {
    /// A router, a host with two links to it, and a client with one.
    private struct TwoLinks {
        let harness: HostilePeerHarness
        /// The two links of the host.
        let kept: RawPeer
        let lost: RawPeer
        let client: RawPeer

        init() async throws {
            harness = try await HostilePeerHarness { $0.role = .router }
            kept = try await harness.handshaken()
            lost = try await RawPeer.connect(to: harness.address, host: kept.host)
            #expect(await lost.handshake() == harness.node.id)
            _ = await lost.opsUntilPong()
            client = try await harness.handshaken()
        }

        var host: HostID { kept.host }

        /// Closes one link of the host and waits until the router has noticed.
        func lose() async throws {
            let before = harness.node.linkCount
            await lost.close()
            try await eventually { harness.node.linkCount == before - 1 }
        }

        func end() async throws {
            await kept.close()
            await client.close()
            try await harness.end()
        }
    }

    @Test func `a router that loses one of two links to a host resets both ends of its streams`() async throws {
        let mesh = try await TwoLinks()
        mesh.lost.send(mesh.lost.op(.data, to: Address(mesh.client.host, 5), from: 6, payload: [1]))
        #expect(await mesh.client.first(.data)?.payload == [1])
        try await mesh.lose()
        let atClient = await mesh.client.first(.rst)
        #expect(atClient == WireOp(.rst, to: Address(mesh.client.host, 0), from: Address(mesh.host, 0)))
        let atHost = await mesh.kept.first(.rst)
        #expect(atHost == WireOp(.rst, to: Address(mesh.host, 0), from: Address(mesh.client.host, 0)))
        try await mesh.end()
    }

    @Test(arguments: [Command.discover, .follow])
    func `the loss of a link that forwarded no ops of streams resets nothing`(command: Command) async throws {
        let mesh = try await TwoLinks()
        mesh.lost.send(mesh.lost.op(command, to: Address(mesh.client.host, 0), from: 0))
        #expect(await mesh.client.first(command) != nil)
        try await mesh.lose()
        #expect(await mesh.client.opsUntilPong().allSatisfy { $0.command != .rst })
        #expect(await mesh.kept.opsUntilPong().allSatisfy { $0.command != .rst })
        try await mesh.end()
    }

    @Test func `a stream that ends by RST tells its other end`() async throws {
        let harness = try await HostilePeerHarness()
        let router = try await harness.handshaken()
        let far = Address(HostID(rawValue: 1), 5)
        router.send([
            WireOp(.dial, to: harness.target.address, from: far), WireOp(.ack, to: harness.target.address, from: far),
        ])
        let stream = try await harness.target.nextStream(deadline: .testDeadline)
        router.send(WireOp(.rst, to: Address(harness.node.id, 0), from: Address(far.host, 0)))
        #expect(await router.first(.err)?.destination == far)
        #expect(await router.first(.fin1)?.destination == far)
        #expect(await router.first(.fin2)?.destination == far)
        await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .testDeadline) }
        stream.close()
        await router.close()
        try await harness.end()
    }

    @Test func `a second link to a router is in use while a stream with a host behind the router is open`() async throws
    {
        let harness = try await HostilePeerHarness()
        let router = try await harness.handshaken()
        let second = try await RawPeer.connect(to: harness.address, host: router.host)
        #expect(await second.handshake() == harness.node.id)
        _ = await second.opsUntilPong()
        let links = harness.node.core.directory.links(to: router.host)
        func areUsed() async throws -> [Bool] {
            var used: [Bool] = []
            for link in links {
                used.append(try await link.eventLoop.submit { link.handler.value?.isUsed == true }.get())
            }
            return used
        }
        #expect(try await areUsed() == [false, false])
        // A stream with the peer itself uses its own link only.
        await router.open(harness.target.address, from: 7)
        let direct = try await harness.target.nextStream(deadline: .testDeadline)
        #expect(try await areUsed() == [true, false])
        let far = Address(HostID(rawValue: 1), 5)
        router.send([
            WireOp(.dial, to: harness.target.address, from: far), WireOp(.ack, to: harness.target.address, from: far),
        ])
        let routed = try await harness.target.nextStream(deadline: .testDeadline)
        #expect(try await areUsed() == [true, true])
        for (stream, remote) in [(direct, Address(router.host, 7)), (routed, far)] {
            stream.close()
            router.send([
                WireOp(.fin1, to: harness.target.address, from: remote),
                WireOp(.fin2, to: harness.target.address, from: remote),
            ])
        }
        _ = await router.opsUntilPong()
        #expect(try await areUsed() == [false, false])
        for peer in [router, second] { await peer.close() }
        try await harness.end()
    }
}
