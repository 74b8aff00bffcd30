import Synchronization

#if os(Linux)
    import CScheduler
#endif

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// How long a thread of this process runs before one that has waited has its turn, while the processors are busy.
///
/// Of all that happens to a small request, each hand-over to a thread would wait for the turn of one that compresses or
/// copies: 3 ms by default. Nobody gets more of the processors for short turns, nor less. Linux has known them since 6.12; an
/// older kernel ignores them, and one that forbids them leaves everything as it is.
package enum Turns {
    /// In nanoseconds: the shortest that Linux knows.
    package static let short: UInt64 = 100_000
    /// In nanoseconds: Linux's own.
    package static let long: UInt64 = 3_000_000
    private static let areShort = Atomic(false)

    /// Asks for short turns, for this thread and those that it starts. To be called first of all.
    package static func shorten() {
        #if os(Linux)
            var scheduling = chanserv_scheduling()
            // Those with a policy of their own were given it by somebody who knows why.
            guard chanserv_get_scheduling(&scheduling) == 0, scheduling.policy == 0 else { return }
            scheduling.runtime = short
            if chanserv_set_scheduling(&scheduling) == 0 { areShort.store(true, ordering: .relaxed) }
        #endif
    }

    /// Lets others run who wait for this processor, if there are any: for whoever computes for longer than a short turn and can
    /// stop between. It costs a system call, a quarter of a microsecond.
    package static func giveWay() {
        sched_yield()
    }

    /// Runs `body`, which computes for longer than a short turn, in a long one.
    ///
    /// Whoever wakes up and has short turns does not wait for the end of a long one, as it would for that of one as short as its
    /// own (Linux's PREEMPT_SHORT). It costs three system calls, about a microsecond.
    package static func withLongOne<Result>(_ body: () -> Result) -> Result {
        #if os(Linux)
            var scheduling = chanserv_scheduling()
            guard areShort.load(ordering: .relaxed), chanserv_get_scheduling(&scheduling) == 0, scheduling.policy == 0,
                scheduling.runtime == short
            else { return body() }
            scheduling.runtime = long
            _ = chanserv_set_scheduling(&scheduling)
            defer {
                scheduling.runtime = short
                _ = chanserv_set_scheduling(&scheduling)
            }
        #endif
        return body()
    }
}
