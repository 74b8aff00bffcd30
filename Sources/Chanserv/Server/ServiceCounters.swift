internal import Metrics
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
        public var requestsRefused: Int {
            refused.busy + refused.withdrawn + refused.draining + refused.denied + refused.quota
        }
    }

    /// Numbers of refused requests.
    public struct Refusals: Sendable, Hashable {
        /// The limit of open or of queued requests was reached.
        public var busy = 0
        /// Failures had withdrawn the name.
        public var withdrawn = 0
        /// The owner has stopped the service, or ended its requests, before they began.
        public var draining = 0
        /// The client may not call the service.
        public var denied = 0
        /// The client has reached its rate or its number of concurrent requests.
        public var quota = 0

        package init(busy: Int = 0, withdrawn: Int = 0, draining: Int = 0, denied: Int = 0, quota: Int = 0) {
            self.busy = busy
            self.withdrawn = withdrawn
            self.draining = draining
            self.denied = denied
            self.quota = quota
        }
    }
}

/// The reason for refusing a request, see ``VirtualService/Refusals``.
package enum RefusalReason: String, Sendable, Hashable, CaseIterable { case busy, withdrawn, draining, denied, quota }

/// Totals of a service since its start. Each is also a counter of swift-metrics with the dimension `vaddr`, for the
/// backend that the program has chosen with `MetricsSystem.bootstrap`.
final class ServiceTotals: Sendable {
    private let requests: Total
    private let busy: Total
    private let withdrawn: Total
    private let draining: Total
    private let denied: Total
    private let quota: Total
    private let sources: Total
    private let frames: Total
    private let bytes: Total
    private let failures: Total

    init(vAddr: String) {
        func total(_ name: String, reason: RefusalReason? = nil) -> Total {
            let reasons = reason.map { [("reason", $0.rawValue)] } ?? []
            return Total(Counter(label: "chanserv_\(name)_total", dimensions: [("vaddr", vAddr)] + reasons))
        }
        requests = total("requests")
        busy = total("requests_refused", reason: .busy)
        withdrawn = total("requests_refused", reason: .withdrawn)
        draining = total("requests_refused", reason: .draining)
        denied = total("requests_refused", reason: .denied)
        quota = total("requests_refused", reason: .quota)
        sources = total("sources")
        frames = total("frames")
        bytes = total("frame_bytes")
        failures = total("failures")
    }

    func addRequest() { requests.add(1) }
    func addSource() { sources.add(1) }
    func addFailure() { failures.add(1) }

    func addRefusal(_ reason: RefusalReason) {
        switch reason {
        case .busy: busy.add(1)
        case .withdrawn: withdrawn.add(1)
        case .draining: draining.add(1)
        case .denied: denied.add(1)
        case .quota: quota.add(1)
        }
    }

    func add(frames: Int, bytes: Int) {
        self.frames.add(frames)
        self.bytes.add(bytes)
    }

    var counters: VirtualService.Counters {
        var counters = VirtualService.Counters()
        counters.requestsTotal = requests.value
        counters.refused = VirtualService.Refusals(
            busy: busy.value, withdrawn: withdrawn.value, draining: draining.value, denied: denied.value,
            quota: quota.value)
        counters.sourcesTotal = sources.value
        counters.frames = frames.value
        counters.bytes = bytes.value
        counters.failures = failures.value
        return counters
    }

    /// A number that the status shows, and its counter in the metrics system.
    private final class Total: Sendable {
        private let count = Atomic<Int>(0)
        private let counter: Counter

        init(_ counter: Counter) { self.counter = counter }

        var value: Int { count.load(ordering: .relaxed) }

        func add(_ number: Int) {
            count.add(number, ordering: .relaxed)
            counter.increment(by: number)
        }
    }
}
