internal import Crypto
internal import Foundation
internal import NIOConcurrencyHelpers

/// Cookies prove to a server that a client behind a router receives at the host id that it claims (`docs/protocol.md` §6).
///
/// A router does not check where ops come from. Without the proof a server could be made to push to a forged client.
final class PushCookies: Sendable {
    /// How many cookies of other hosts are kept: 4,096. Beyond it the oldest is dropped, which costs one round trip.
    private static let limit = 4_096
    /// The error of a server that did not make the cookie: it was started again. The client then dials without one.
    static let wrongCookie = "wrong cookie"

    private struct Inside {
        /// Cookies that this node made, by the client.
        var made: [HostID: UInt64] = [:]
        /// Cookies that others made for this node, by the server.
        var kept: [HostID: UInt64] = [:]
        var order: [HostID] = []
    }

    private let key: SymmetricKey
    private let inside = NIOLockedValueBox(Inside())

    /// - Parameter random: draws the key, which lives as long as the process.
    init(random: () -> UInt64) {
        key = SymmetricKey(data: (0..<4).flatMap { _ in withUnsafeBytes(of: random()) { Array($0) } })
    }

    /// The cookie for the client `host`: the first eight bytes of an HMAC-SHA-256 over the host id.
    func make(for host: HostID) -> UInt64 {
        if let known = inside.withLockedValue({ $0.made[host] }) { return known }
        let code = withUnsafeBytes(of: host.rawValue.bigEndian) {
            HMAC<SHA256>.authenticationCode(for: Data($0), using: key)
        }
        let cookie = code.withUnsafeBytes { UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)) }
        inside.withLockedValue { inside in
            if inside.made.count >= Self.limit { inside.made.removeAll(keepingCapacity: true) }
            inside.made[host] = cookie
        }
        return cookie
    }

    /// The cookie that `host` made for this node.
    func cookie(of host: HostID) -> UInt64? { inside.withLockedValue { $0.kept[host] } }

    /// `host` made this cookie for this node.
    func keep(_ cookie: UInt64, of host: HostID) {
        inside.withLockedValue { inside in
            if inside.kept.updateValue(cookie, forKey: host) == nil { inside.order.append(host) }
            while inside.order.count > Self.limit { inside.kept[inside.order.removeFirst()] = nil }
        }
    }

    /// `host` no longer takes its cookie.
    func forget(_ host: HostID) {
        inside.withLockedValue { inside in
            if inside.kept.removeValue(forKey: host) != nil { inside.order.removeAll { $0 == host } }
        }
    }
}
