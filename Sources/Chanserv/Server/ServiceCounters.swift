import Synchronization

extension VirtualService {
    /// Totals of a service since its start, and the numbers of its open requests and sources.
    public struct Counters: Sendable, Hashable {
        /// Requests that are not answered: their sources are being listed or sent.
        public var requestsOpen = 0
        /// All requests since the start.
        public var requestsTotal = 0
        /// Requests that were refused since the start, by reason.
        public var refused = Refusals()
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

        /// All requests that were refused since the start.
        public var requestsRefused: Int { refused.busy + refused.withdrawn + refused.draining }
    }

    /// Numbers of refused requests.
    public struct Refusals: Sendable, Hashable {
        /// The limit of open or of queued requests was reached.
        public var busy = 0
        /// Failures had withdrawn the name.
        public var withdrawn = 0
        /// The owner has stopped the service, or ended its requests, before they began.
        public var draining = 0

        package init(busy: Int = 0, withdrawn: Int = 0, draining: Int = 0) {
            self.busy = busy
            self.withdrawn = withdrawn
            self.draining = draining
        }
    }
}

/// The reason for refusing a request, see ``VirtualService/Refusals``.
package enum RefusalReason: String, Sendable, Hashable { case busy, withdrawn, draining }

/// Totals of a service since its start.
final class ServiceTotals: Sendable {
    private let requests = Atomic<Int>(0)
    private let busy = Atomic<Int>(0)
    private let withdrawn = Atomic<Int>(0)
    private let draining = Atomic<Int>(0)
    private let sources = Atomic<Int>(0)
    private let frames = Atomic<Int>(0)
    private let bytes = Atomic<Int>(0)
    private let failures = Atomic<Int>(0)

    func addRequest() { requests.add(1, ordering: .relaxed) }
    func addSource() { sources.add(1, ordering: .relaxed) }
    func addFailure() { failures.add(1, ordering: .relaxed) }

    func addRefusal(_ reason: RefusalReason) {
        switch reason {
        case .busy: busy.add(1, ordering: .relaxed)
        case .withdrawn: withdrawn.add(1, ordering: .relaxed)
        case .draining: draining.add(1, ordering: .relaxed)
        }
    }

    func add(frames: Int, bytes: Int) {
        self.frames.add(frames, ordering: .relaxed)
        self.bytes.add(bytes, ordering: .relaxed)
    }

    var counters: VirtualService.Counters {
        var counters = VirtualService.Counters()
        counters.requestsTotal = requests.load(ordering: .relaxed)
        counters.refused = VirtualService.Refusals(
            busy: busy.load(ordering: .relaxed), withdrawn: withdrawn.load(ordering: .relaxed),
            draining: draining.load(ordering: .relaxed))
        counters.sourcesTotal = sources.load(ordering: .relaxed)
        counters.frames = frames.load(ordering: .relaxed)
        counters.bytes = bytes.load(ordering: .relaxed)
        counters.failures = failures.load(ordering: .relaxed)
        return counters
    }
}
