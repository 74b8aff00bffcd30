import AstraNet
import NIOCore
import Testing

/// Connections that close before they become links.
@Suite(.timeLimit(.minutes(5))) struct ClosedConnectionTests {
    @Test(arguments: [true, false])
    func `a connection that is already closed makes no link and fails the waits for it`(isDialled: Bool) async throws {
        let harness = try await HostilePeerHarness()
        let channel = try await harness.connect().channel
        try await channel.close()
        // The channel removes its handlers in an earlier turn of the loop. After that, adding a handler fails.
        let eventLoop = channel.eventLoop
        try await eventLoop.submit {}.get()
        let up = eventLoop.makePromise(of: LinkUp.self)
        let core = harness.node.core
        let made = eventLoop.flatSubmit { core.makeLink(of: channel, origin: isDialled ? .dialled : .attached, up: up) }
        await #expect(throws: (any Error).self) { try await made.get() }
        await #expect(throws: (any Error).self) { _ = try await up.futureResult.get() }
        try await harness.end()
    }
}
