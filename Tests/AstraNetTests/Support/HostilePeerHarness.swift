import AstraNet
import NIOCore
import Testing

/// A node under attack. A well-behaved peer uses its echo service over one link; the test connects hostile peers on
/// other links.
struct HostilePeerHarness {
    let node: Node
    let address: SocketAddress
    /// The service that hostile peers dial. The test accepts the streams.
    let target: Listener
    private let goodPeer: Node
    private let echo: Listener
    private let echoing: Task<Void, any Error>

    init(_ configure: (inout NodeConfiguration) -> Void = { _ in }) async throws {
        node = .withoutTimeouts(configure)
        address = try await node.listen(host: "127.0.0.1", port: 0)
        target = try node.bind("target")
        let echo = try node.bind("echo")
        self.echo = echo
        echoing = Task {
            while true {
                let stream = try await echo.nextStream()
                try await stream.send(stream.readAll())
                stream.close()
            }
        }
        goodPeer = .withoutTimeouts()
        try await goodPeer.join(host: "127.0.0.1", port: address.port!, deadline: .testDeadline)
    }

    /// Connects a socket to the node, without a handshake.
    func connect(reads: Bool = true) async throws -> RawPeer {
        try await RawPeer.connect(to: address, reads: reads)
    }

    /// Connects a socket, does the handshake and waits for the announcements of the node's services.
    func handshaken(_ json: String = #"{"RAddr":"127.0.0.1:5555"}"#) async throws -> RawPeer {
        let peer = try await connect()
        #expect(await peer.handshake(json) == node.id)
        _ = await peer.opsUntilPong()
        return peer
    }

    /// Checks that the link of the well-behaved peer still carries streams.
    func expectOtherLinkWorks(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let stream = try await goodPeer.dial("echo", deadline: .testDeadline)
        try await stream.send(ByteBuffer(repeating: 7, count: 100_000), deadline: .testDeadline)
        stream.finish()
        let received = try await stream.readAll().readableBytes
        #expect(received == 100_000, sourceLocation: sourceLocation)
        stream.close()
    }

    func end(checksOtherLink: Bool = true) async throws {
        if checksOtherLink { try await expectOtherLinkWorks() }
        echo.close()
        await goodPeer.shutdown()
        await node.shutdown()
        await #expect(throws: AstraNetError.self) { try await echoing.value }
    }
}

extension RawPeer {
    /// An op from a port of this peer to `address`.
    func op(_ command: Command, to address: Address, from port: UInt32, payload: [UInt8] = []) -> WireOp {
        WireOp(command, to: address, from: Address(host, port), payload: payload)
    }

    /// Dials and waits for the SYN and the SYN_ACK.
    func open(_ address: Address, from port: UInt32) async {
        send(op(.dial, to: address, from: port))
        let syn = await first(.syn)
        #expect(syn == WireOp(.syn, to: Address(host, port), from: address))
        send(op(.ack, to: address, from: port))
        let synAck = await first(.synAck)
        #expect(synAck == WireOp(.synAck, to: Address(host, port), from: address))
    }
}
