import AstraNet
import NIOCore
import Testing

extension Node {
    /// A node with a role, without timeouts.
    static func withoutTimeouts(_ role: NodeConfiguration.Role) -> Node { .withoutTimeouts { $0.role = role } }

    /// Listens on a free port of the loopback address.
    @discardableResult
    func listening() async throws -> SocketAddress { try await listen(host: "127.0.0.1", port: 0) }

    /// Joins a node that listens at an address.
    func join(_ address: SocketAddress) async throws {
        try await join(host: address.ipAddress!, port: address.port!, deadline: .testDeadline)
    }

    /// Binds `name` and sends back the bytes of each stream.
    func echo(_ name: String) throws -> Listener {
        let listener = try bind(name)
        Task {
            await withDiscardingTaskGroup { group in
                while let stream = try? await listener.nextStream() {
                    group.addTask {
                        defer { stream.close() }
                        do {
                            while let bytes = try await stream.receive() { try await stream.send(bytes) }
                        } catch {
                            // A test that breaks the stream checks the error at the client's end.
                        }
                    }
                }
            }
        }
        return listener
    }

    /// Dials an echo service and checks that it sends the bytes back.
    func expectEcho(_ name: String, count: Int = 100, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let stream = try await dial(name, deadline: .testDeadline)
        try await stream.expectEcho(count: count, sourceLocation: sourceLocation)
        stream.finish()
        #expect(try await stream.receive(deadline: .testDeadline) == nil, sourceLocation: sourceLocation)
        stream.close()
    }

    /// The hosts that this node has links to.
    var peers: Set<HostID> { Set(listing.links.map(\.peer)) }
}

extension AstraNet.MeshStream {
    /// Sends `count` bytes and checks that the peer sends them back.
    func expectEcho(count: Int, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let sent = ByteBuffer(bytes: (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) })
        async let sending: Void = send(sent, deadline: .testDeadline)
        var received = ByteBuffer()
        while received.readableBytes < count, let bytes = try await receive(deadline: .testDeadline) {
            received.writeImmutableBuffer(bytes)
        }
        try await sending
        #expect(received == sent, sourceLocation: sourceLocation)
    }

    /// Reads until an error and returns it.
    func failure() async -> AstraNetError? {
        await #expect(throws: AstraNetError.self) {
            while try await receive(deadline: .testDeadline) != nil {}
            throw AstraNetError(.closed, "the stream ended well")
        }
    }
}

/// Waits until `condition` is true, for state that causes no event: links that a node makes by itself, and counters.
func eventually(
    _ condition: @Sendable () -> Bool, sourceLocation: SourceLocation = #_sourceLocation
) async throws {
    let deadline = ContinuousClock.Instant.testDeadline
    while !condition() {
        try #require(.now < deadline, "the condition did not become true in time", sourceLocation: sourceLocation)
        try await Task.sleep(for: .milliseconds(5))
    }
}
