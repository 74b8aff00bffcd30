import Synchronization

extension VirtualService {
    /// Totals of a service since its start, and the numbers of its open requests and sources.
    public struct Counters: Sendable, Hashable {
        /// Requests that are not answered: their sources are being listed or sent.
        public var requestsOpen = 0
        /// All requests since the start.
        public var requestsTotal = 0
        /// Requests that were refused since the start, because of a limit or because the name was withdrawn.
        public var requestsRefused = 0
        /// Sources that the client has not accepted yet.
        public var sourcesWaiting = 0
        /// Sources that are being sent.
        public var sourcesOpen = 0
        /// All sources since the start.
        public var sourcesTotal = 0
        /// Frames that were written to connections since the start.
        public var frames = 0
        /// The encoded bytes of these frames.
        public var bytes = 0
        /// Failures that count (see ``Server/Configuration/maxErrorMass``) since the start.
        public var failures = 0
        /// The current number of failures in a row.
        public var errorMass = 0
    }
}

/// Totals of a service since its start.
final class ServiceTotals: Sendable {
    private let requests = Atomic<Int>(0)
    private let refusals = Atomic<Int>(0)
    private let sources = Atomic<Int>(0)
    private let frames = Atomic<Int>(0)
    private let bytes = Atomic<Int>(0)
    private let failures = Atomic<Int>(0)

    func addRequest() { requests.add(1, ordering: .relaxed) }
    func addRefusal() { refusals.add(1, ordering: .relaxed) }
    func addSource() { sources.add(1, ordering: .relaxed) }
    func addFailure() { failures.add(1, ordering: .relaxed) }

    func add(frames: Int, bytes: Int) {
        self.frames.add(frames, ordering: .relaxed)
        self.bytes.add(bytes, ordering: .relaxed)
    }

    var counters: VirtualService.Counters {
        var counters = VirtualService.Counters()
        counters.requestsTotal = requests.load(ordering: .relaxed)
        counters.requestsRefused = refusals.load(ordering: .relaxed)
        counters.sourcesTotal = sources.load(ordering: .relaxed)
        counters.frames = frames.load(ordering: .relaxed)
        counters.bytes = bytes.load(ordering: .relaxed)
        counters.failures = failures.load(ordering: .relaxed)
        return counters
    }
}
