import Glibc

/// The options of the command line.
struct Options {
    enum Mode {
        /// Runs the seeds in one process for each processor.
        case pool
        /// Runs the seeds in this process and reports each of them to the pool.
        case worker
        /// Prints the traces of the seeds.
        case trace
        /// Runs 1,000 nodes behind 10 routers and prints figures.
        case large
        /// Counts and checks the round trips of dials and requests.
        case roundTrips
    }

    var mode = Mode.pool
    var seeds: UInt64 = 2_000
    var first: UInt64 = 1
    /// Whether a failing seed is reported in one line and the next seeds still run.
    var isBrief = false
    /// Whether all seeds are guarded, not only a part of them.
    var isGuarded = false

    static let usage =
        "usage: scripts/simulate [--seeds N] [--from S] [--guarded] [--brief] [--trace | --round-trips | --large]"

    /// - Throws: ``UsageError``.
    init(_ arguments: some Sequence<String>) throws(UsageError) {
        var arguments = Array(arguments)[...]
        while let argument = arguments.popFirst() {
            switch argument {
            case "--worker": mode = .worker
            case "--trace": mode = .trace
            case "--large": mode = .large
            case "--round-trips": mode = .roundTrips
            case "--brief": isBrief = true
            case "--guarded": isGuarded = true
            case "--seeds": seeds = try Self.number(argument, &arguments)
            case "--from": first = try Self.number(argument, &arguments)
            default: throw UsageError(description: "unknown argument: \(argument)")
            }
        }
    }

    private static func number(_ name: String, _ arguments: inout ArraySlice<String>) throws(UsageError) -> UInt64 {
        guard let value = arguments.popFirst().flatMap(UInt64.init), (1...1_000_000_000).contains(value) else {
            throw UsageError(description: "\(name) needs a number from 1 to 1,000,000,000")
        }
        return value
    }
}

struct UsageError: Error {
    var description: String
}
