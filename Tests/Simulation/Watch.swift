import Glibc

/// Says which seed it was when a run crashes or does not end.
enum Watch {
    /// One thread writes it; a signal handler may do nothing but read it.
    nonisolated(unsafe) private static var seed: UInt64 = 0
    /// A seed may take so many seconds.
    private static let limit: UInt32 = 120

    static func begin() {
        for number in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGABRT, SIGALRM] {
            signal(number) { number in
                Watch.say(number)
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
            number == SIGALRM ? "seed \(seed) does not end" : "seed \(seed) crashes with signal \(number)")
    }
}
