internal import AstraNet
internal import Chanserv
internal import Glibc
internal import HostConfiguration
internal import NIOConcurrencyHelpers
internal import Synchronization

/// Decides who may call a route and how often: the options `access` of the route.
///
/// It stays while the route is bound. A reload changes its options and keeps the counts.
final class RouteAdmission: RequestAdmission {
    private struct State {
        /// The names of the identities that may call the route; `nil` for everyone.
        var allowed: Set<String>?
        /// The requests of all callers; `nil` without a quota.
        var table: QuotaTable?
    }

    private let vAddr: String
    private let state: NIOLockedValueBox<State>

    init(_ vAddr: String, _ access: RouteOptions.Access) {
        self.vAddr = vAddr
        state = NIOLockedValueBox(State(allowed: access.allow, table: RequestQuota(access).map { QuotaTable($0) }))
    }

    /// Uses other options from now on.
    func use(_ access: RouteOptions.Access) {
        let quota = RequestQuota(access)
        state.withLockedValue { state in
            state.allowed = access.allow
            // The table stays without a quota, because places of open requests belong to it.
            if state.table != nil {
                state.table?.use(quota ?? RequestQuota())
            } else if let quota {
                state.table = QuotaTable(quota)
            }
        }
    }

    func isAllowed(_ caller: Caller) -> Bool {
        state.withLockedValue { $0.allowed.map { AccessRules.allows($0, caller.names) } ?? true }
    }

    func admit(_ caller: Caller, from address: String, now: ContinuousClock.Instant) -> Admission {
        let key = caller.identity.isEmpty ? Self.network(of: address) : "id \(caller.identity)"
        switch state.withLockedValue({ $0.table?.take(key, now: now) }) {
        case nil: return .admitted(place: nil)
        case .admitted: return .admitted(place: Place(key, of: self))
        case .busy(let time):
            // Rounded up, so that a client that waits this long is not refused again.
            let milliseconds = Int((time / .milliseconds(1)).rounded(.up))
            return .refused("busy: you have sent too many requests to \(vAddr); retry after \(milliseconds) ms")
        case .tooManyConcurrent:
            return .refused("busy: you have too many open requests to \(vAddr); retry when one has ended")
        }
    }

    /// Returns what identifies a caller without an identity: its IP address without the port, which is new for each
    /// connection. Of an IPv6 address only the first 64 bits, because a client can use all addresses of its network.
    private static func network(of address: String) -> String {
        guard let host = HostPort(address)?.host else { return address }
        var bytes = [UInt8](repeating: 0, count: 16)
        guard host.contains(":"), inet_pton(AF_INET6, host, &bytes) == 1 else { return host }
        return bytes.prefix(8).map { String($0, radix: 16) }.joined(separator: ":")
    }

    /// The place of a request of one caller.
    private final class Place: AdmissionPlace {
        private let key: String
        private let admission: RouteAdmission
        private let hasEnded = Atomic<Bool>(false)

        init(_ key: String, of admission: RouteAdmission) {
            self.key = key
            self.admission = admission
        }

        deinit { end() }

        func end() {
            guard !hasEnded.exchange(true, ordering: .relaxed) else { return }
            admission.state.withLockedValue { $0.table?.release(key) }
        }
    }
}
