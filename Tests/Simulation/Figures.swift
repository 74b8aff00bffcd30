/// Totals of the runs of one or several processes.
struct Figures {
    var seeds: UInt64 = 0
    /// Plain streams, and those of them that met a fault.
    var posts = 0
    var failed = 0
    var requests = 0
    var failedRequests = 0
    /// In nanoseconds.
    var virtualTime: UInt64 = 0
    /// The longest time from the last fault of a mesh until it had converged, in nanoseconds.
    var longest: UInt64 = 0
    /// Guarded seeds, the ops of their adversaries that reached nodes of this library, and those that these refused as
    /// forged or forbidden.
    var guarded = 0
    var hostileOps = 0
    var refused = 0

    init() {}

    /// The figures of one run.
    init(_ run: Run) {
        seeds = 1
        posts = run.posts
        failed = run.failedPosts
        requests = run.requests
        failedRequests = run.failedRequests
        virtualTime = run.ended
        longest = run.convergence
        guarded = run.isGuarded ? 1 : 0
        hostileOps = run.hostileOps
        refused = run.refusedOps
    }

    /// Reads ``line``; `nil` for any other line.
    init?(line: String) {
        let words = line.split(separator: " ")
        let numbers = words.dropFirst().compactMap { UInt64($0) }
        guard words.first == "done", numbers.count == 10 else { return nil }
        seeds = numbers[0]
        posts = Int(numbers[1])
        failed = Int(numbers[2])
        requests = Int(numbers[3])
        failedRequests = Int(numbers[4])
        virtualTime = numbers[5]
        longest = numbers[6]
        guarded = Int(numbers[7])
        hostileOps = Int(numbers[8])
        refused = Int(numbers[9])
    }

    /// The line with which a worker process reports its figures.
    var line: String {
        "done \(seeds) \(posts) \(failed) \(requests) \(failedRequests) \(virtualTime) \(longest) "
            + "\(guarded) \(hostileOps) \(refused)"
    }

    mutating func add(_ other: Figures) {
        seeds += other.seeds
        posts += other.posts
        failed += other.failed
        requests += other.requests
        failedRequests += other.failedRequests
        virtualTime += other.virtualTime
        longest = max(longest, other.longest)
        guarded += other.guarded
        hostileOps += other.hostileOps
        refused += other.refused
    }
}
