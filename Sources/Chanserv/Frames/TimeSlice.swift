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

/// The time slice of this process's threads: how long a thread runs before a waiting thread gets the processor.
///
/// A small request is passed between several threads. Each of these steps could wait for the time slice of a thread
/// that compresses or copies, 3 ms by default. Short slices do not change the share of processor time. Linux 6.12 and
/// later support them. Older kernels ignore the setting. A system that forbids it leaves everything unchanged.
package enum TimeSlice {
    /// Short slice in nanoseconds: the minimum of Linux.
    package static let short: UInt64 = 100_000
    /// Long slice in nanoseconds: the default of Linux.
    package static let long: UInt64 = 3_000_000
    private static let areShort = Atomic(false)

    /// Requests short slices for this thread and the threads that it creates. Call it before any other thread exists.
    package static func requestShort() {
        #if os(Linux)
            var scheduling = chanserv_scheduling()
            // Threads with a scheduling policy of their own keep it: an operator has set it.
            guard chanserv_get_scheduling(&scheduling) == 0, scheduling.policy == 0 else { return }
            scheduling.runtime = short
            if chanserv_set_scheduling(&scheduling) == 0 { areShort.store(true, ordering: .relaxed) }
        #endif
    }

    /// Lets other threads that wait for this processor run, if there are any. Called by long computations at points
    /// where they can pause. Costs one system call, 0.25 µs.
    package static func yield() {
        sched_yield()
    }

    /// Runs `body`, which computes for longer than a short slice, with a long slice.
    ///
    /// A thread that wakes up with a short slice preempts a thread with a longer slice. It would wait for a thread with
    /// an equally short one (PREEMPT_SHORT of Linux). Costs three system calls, about 1 µs.
    package static func withLong<Result>(_ body: () -> Result) -> Result {
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
