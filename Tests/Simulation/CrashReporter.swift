import Glibc

/// Reports the current seed if a run crashes or does not end.
enum CrashReporter {
    /// Only one thread writes it, and a signal handler only reads it.
    nonisolated(unsafe) private static var seed: UInt64 = 0
    /// Maximum time for a seed, in seconds.
    private static let limit: UInt32 = 120

    static func begin() {
        for number in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGABRT, SIGALRM] {
            signal(number) { number in
                CrashReporter.say(number)
                _exit(70)
            }
        }
    }

    static func seed(_ seed: UInt64) {
        self.seed = seed
        alarm(limit)
    }

    private static func say(_ number: CInt) {
        AstraNetSimulation.say(
            number == SIGALRM
                ? "seed \(seed) did not end within \(limit) s" : "seed \(seed) crashed with signal \(number)")
    }
}
