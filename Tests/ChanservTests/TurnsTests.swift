import CScheduler
import Chanserv
import Foundation
import Testing

/// The scheduler slices of threads.
@Suite struct TurnsTests {
    /// The scheduler slice of the current thread in nanoseconds; 0 before Linux 6.12.
    private static func turn() -> UInt64 {
        var scheduling = chanserv_scheduling()
        return chanserv_get_scheduling(&scheduling) == 0 ? scheduling.runtime : 0
    }

    /// Runs on a new thread, because the slice stays set until the thread ends.
    @Test func `a long computation gets a long slice and short slices follow`() async {
        let turns = await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                let before = Self.turn()
                TimeSlice.requestShort()
                let short = Self.turn()
                let long = TimeSlice.withLong { Self.turn() }
                continuation.resume(returning: (before: before, all: [short, long, Self.turn()]))
            }
        }
        // An older kernel has no slices, so the calls change nothing.
        #expect(turns.all == (turns.before == 0 ? [0, 0, 0] : [TimeSlice.short, TimeSlice.long, TimeSlice.short]))
    }
}
