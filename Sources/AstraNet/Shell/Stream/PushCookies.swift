internal import Crypto
internal import FoundationEssentials
internal import NIOConcurrencyHelpers

/// The cookies of requests with pushed sources. A cookie proves to a server that a client behind a router receives at
/// the host id that it claims (`docs/protocol.md` §6.3).
///
/// A Go router does not check the source of ops. Without cookies, a forged DIAL could make a server push to a third
/// node.
package final class PushCookies: Sendable {
    /// Maximum number of cookies from other hosts that are kept (4,096). If the oldest is dropped, its next request
    /// takes one more round trip.
    private static let limit = 4_096
    /// Text of the ERR for a wrong cookie, for example after the server has restarted. The client then dials without a
    /// cookie.
    package static let wrongCookie = "wrong cookie"

    private struct State {
        /// Cookies that this node made, by client.
        var made: [HostID: UInt64] = [:]
        /// Cookies that other hosts made for this node, by server.
        var kept: [HostID: UInt64] = [:]
        var order: [HostID] = []
    }

    private let key: SymmetricKey
    private let state = NIOLockedValueBox(State())

    /// Creates a store with a new key.
    ///
    /// - Parameter random: the source of random numbers for the key.
    init(random: () -> UInt64) {
        key = SymmetricKey(data: (0..<4).flatMap { _ in withUnsafeBytes(of: random()) { Array($0) } })
    }

    /// Returns the cookie for the client `host`: the first eight bytes of an HMAC-SHA-256 over the host id.
    package func make(for host: HostID) -> UInt64 {
        if let known = state.withLockedValue({ $0.made[host] }) { return known }
        let code = withUnsafeBytes(of: host.rawValue.bigEndian) {
            HMAC<SHA256>.authenticationCode(for: Data($0), using: key)
        }
        let cookie = code.withUnsafeBytes { UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)) }
        state.withLockedValue { state in
            if state.made.count >= Self.limit { state.made.removeAll(keepingCapacity: true) }
            state.made[host] = cookie
        }
        return cookie
    }

    /// Returns the cookie that `host` made for this node; `nil` if there is none.
    package func cookie(of host: HostID) -> UInt64? { state.withLockedValue { $0.kept[host] } }

    /// Stores a cookie that `host` made for this node.
    package func keep(_ cookie: UInt64, of host: HostID) {
        state.withLockedValue { state in
            if state.kept.updateValue(cookie, forKey: host) == nil { state.order.append(host) }
            while state.order.count > Self.limit { state.kept[state.order.removeFirst()] = nil }
        }
    }

    /// Drops the cookie of `host` because the host refused it.
    func forget(_ host: HostID) {
        state.withLockedValue { state in
            if state.kept.removeValue(forKey: host) != nil { state.order.removeAll { $0 == host } }
        }
    }
}
