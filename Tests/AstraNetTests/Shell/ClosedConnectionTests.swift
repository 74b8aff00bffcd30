import NIOCore
import Testing

@testable import AstraNet

/// Connections that are gone before they become links.
@Suite(.timeLimit(.minutes(5))) struct ClosedConnectionTests {
    @Test(arguments: [true, false])
    func aConnectionThatIsClosedAlreadyIsNoLinkAndWhoWaitsForItIsTold(isDialled: Bool) async throws {
        let siege = try await Besieged()
        let channel = try await siege.connect().channel
        try await channel.close()
        // Behind the removal of its handlers, after which none can be added.
        let eventLoop = channel.eventLoop
        try await eventLoop.submit {}.get()
        let up = eventLoop.makePromise(of: LinkUp.self)
        let core = siege.node.core
        let made = eventLoop.flatSubmit { core.makeLink(of: channel, isDialled: isDialled, up: up) }
        await #expect(throws: (any Error).self) { try await made.get() }
        await #expect(throws: (any Error).self) { _ = try await up.futureResult.get() }
        try await siege.end()
    }
}
