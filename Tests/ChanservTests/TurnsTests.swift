import CScheduler
import Chanserv
import Foundation
import Testing

/// How long threads run while others wait.
@Suite struct TurnsTests {
    /// What the system says of this thread, in nanoseconds; 0 before Linux 6.12.
    private static func turn() -> UInt64 {
        var scheduling = chanserv_scheduling()
        return chanserv_get_scheduling(&scheduling) == 0 ? scheduling.runtime : 0
    }

    /// On a thread of its own, which ends with what it was told.
    @Test func whatComputesForLongHasALongTurnAndThenShortOnesAgain() async {
        let turns = await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                let before = Self.turn()
                Turns.shorten()
                let short = Self.turn()
                let long = Turns.withLongOne { Self.turn() }
                continuation.resume(returning: (before: before, all: [short, long, Self.turn()]))
            }
        }
        // An older kernel knows no turns, and all of it does nothing.
        #expect(turns.all == (turns.before == 0 ? [0, 0, 0] : [Turns.short, Turns.long, Turns.short]))
    }
}
