#if os(Linux)
    import CScheduler
#endif

/// How long a thread of this process runs before one that has waited has its turn.
enum ShortTurns {
    /// In nanoseconds: the shortest that Linux knows.
    private static let length: UInt64 = 100_000

    /// Asks for short turns, for this thread and those that it starts: of all that happens to a small request, each hand-over to
    /// a thread would wait for the turn of one that compresses or copies, 3 ms by default, while the processors are busy.
    ///
    /// Nobody gets more of the processors for it, nor less. Linux has known it since 6.12; an older kernel ignores it, and one
    /// that forbids it leaves everything as it is.
    static func take() {
        #if os(Linux)
            var scheduling = chanserv_scheduling()
            // Those with a policy of their own were given it by somebody who knows why.
            guard chanserv_get_scheduling(&scheduling) == 0, scheduling.policy == 0 else { return }
            scheduling.runtime = length
            _ = chanserv_set_scheduling(&scheduling)
        #endif
    }
}
