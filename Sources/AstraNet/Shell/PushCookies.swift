internal import Crypto
internal import Foundation
internal import NIOConcurrencyHelpers

/// Cookies for pushed sources (`docs/protocol.md` §6.3). A cookie proves to a server that a client behind a router
/// receives ops at its host id.
///
/// A router does not check the source of ops. Without cookies, a forged DIAL could make a server push to another
/// client.
final class PushCookies: Sendable {
    /// The maximum number of cookies of other hosts: 4,096. Beyond it the oldest one is dropped, which costs one round
    /// trip.
    private static let limit = 4_096
    /// The text of ERR for a wrong cookie, for example after a restart of the server. The client then dials without a
    /// cookie.
    static let wrongCookie = "wrong cookie"

    private struct State {
        /// The cookies that this node has made, by client.
        var made: [HostID: UInt64] = [:]
        /// The cookies that other nodes have made for this node, by server.
        var kept: [HostID: UInt64] = [:]
        var order: [HostID] = []
    }

    private let key: SymmetricKey
    private let state = NIOLockedValueBox(State())

    /// - Parameter random: the random source for the key. The key is used as long as the process lives.
    init(random: () -> UInt64) {
        key = SymmetricKey(data: (0..<4).flatMap { _ in withUnsafeBytes(of: random()) { Array($0) } })
    }

    /// Returns the cookie for the client `host`: the first 8 bytes of an HMAC-SHA-256 over the host id.
    func make(for host: HostID) -> UInt64 {
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

    /// Returns the cookie that `host` has made for this node.
    func cookie(of host: HostID) -> UInt64? { state.withLockedValue { $0.kept[host] } }

    /// Stores the cookie that `host` has made for this node.
    func keep(_ cookie: UInt64, of host: HostID) {
        state.withLockedValue { state in
            if state.kept.updateValue(cookie, forKey: host) == nil { state.order.append(host) }
            while state.order.count > Self.limit { state.kept[state.order.removeFirst()] = nil }
        }
    }

    /// Drops the cookie of `host`, which the host does not accept any more.
    func forget(_ host: HostID) {
        state.withLockedValue { state in
            if state.kept.removeValue(forKey: host) != nil { state.order.removeAll { $0 == host } }
        }
    }
}
