import AstraNet
import Foundation
import NIOCore
import Testing

@Suite struct JoinWarningsTests {
    private static let second: UInt64 = 1_000_000_000

    @Test func `the first failure is a warning and then one a minute`() {
        var warnings = JoinWarnings()
        let seconds = (0...180 as ClosedRange<UInt64>).filter { warnings.failed(.address("a"), now: $0 * Self.second) }
        #expect(seconds == [0, 60, 120, 180])
    }

    /// The macro cannot evaluate a mutating call.
    private func expect(_ value: Bool, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(value, sourceLocation: sourceLocation)
    }

    @Test func `a success makes the next failure a warning`() {
        var warnings = JoinWarnings()
        expect(warnings.failed(.address("a"), now: 0))
        expect(!warnings.failed(.address("a"), now: Self.second))
        warnings.joined(.address("a"))
        expect(warnings.failed(.address("a"), now: 2 * Self.second))
    }

    @Test func `a name and an address are separate`() {
        var warnings = JoinWarnings()
        expect(warnings.failed(.address("a"), now: 0))
        expect(warnings.failed(.name("a"), now: 0))
    }

    @Test func `an address of this node itself is a warning once`() {
        var warnings = JoinWarnings()
        expect(warnings.failed(.address("a"), isOwn: true, now: 0))
        expect(!warnings.failed(.address("a"), isOwn: true, now: 600 * Self.second))
    }
}

@Suite struct SocketErrorTests {
    @Test func `a port that the process may not use is its own kind of error`() {
        #expect(SocketNetwork.listenFailure(IOError(errnoCode: EACCES, reason: "bind")) == .permissionDenied)
    }

    @Test func `errors of a connection have no names of functions or numbers`() {
        for code in [ECONNRESET, EPIPE] {
            let reset = SocketNetwork.connectionFailure(IOError(errnoCode: code, reason: "read"))
            #expect(reset.isReset)
            #expect(reset.reason == "the connection was reset by the peer")
        }
        let other = SocketNetwork.connectionFailure(IOError(errnoCode: ETIMEDOUT, reason: "read"))
        #expect(!other.isReset)
        #expect(other.reason == "the connection failed: Connection timed out")
    }
}

@Suite struct TimeTextTests {
    @Test(
        arguments: [
            (10_000_000_000, "10s"), (9_999_800_000, "10s"), (90_000_000_000, "1m30s"), (250_000_000, "250ms"),
            (998_700_000, "1s"),
            (99_100_000, "100ms"),
            (1_500_000_000, "1s500ms"), (3_600_000_000_000, "1h"), (0, "0"),
        ] as [(UInt64, String)])
    func `time spans have the notation of the configuration`(nanoseconds: UInt64, text: String) {
        #expect(TimeText.text(nanoseconds: nanoseconds) == text)
    }
}
