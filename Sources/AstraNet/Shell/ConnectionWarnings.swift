internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// The warnings about connections that a node closed or refused. Each cause is logged at most once a minute.
///
/// It has its own lock. It logs without the lock.
final class ConnectionWarnings: Sendable {
    private let log: Logger
    private let timers: any EventLoop
    private let maximumLinks: Int
    private let rates = NIOLockedValueBox(WarningRateLimit())

    init(log: Logger, timers: any EventLoop, maximumLinks: Int) {
        self.log = log
        self.timers = timers
        self.maximumLinks = maximumLinks
    }

    /// Logs a warning about a connection from an address that this node closed, at most once a minute per address.
    ///
    /// - Parameter log: the log of the link.
    func closed(_ failure: HandshakeFailure, from address: SocketAddress?, _ log: Logger) {
        let key = address?.ipAddress ?? ""
        warn(about: key, { log.warning("\(failure.warning(about: address?.printed ?? ""))") }) { key, count in
            let source = key.map { $0.isEmpty ? "" : " from \($0)" } ?? " from other addresses"
            return "closed \(count) more connection\(count == 1 ? "" : "s")\(source) in the last minute that sent no "
                + "valid handshake"
        }
    }

    /// Logs a warning about a connection that the limit of links refused, at most once a minute.
    func refused(from address: String) {
        let limit = "\(maximumLinks) links is reached (node.limits.links)"
        warn(about: "limit of links", { log.warning("refused a connection from \(address): the limit of \(limit)") }) {
            "refused \($1) more connection\($1 == 1 ? "" : "s") in the last minute: the limit of \(limit)"
        }
    }

    /// Logs a warning about an act of a peer that the access rules forbid, at most once a minute for each peer and kind.
    ///
    /// - Parameters:
    ///   - detail: the service or the host of the act, for the metadata.
    ///   - log: the log of the link.
    func forbidden(_ kind: Forbidden, _ detail: String, by identity: LinkIdentity, _ log: Logger) {
        let name = identity.name.isEmpty ? "a peer without an identity" : "the peer '\(identity.name)'"
        let first = { log.warning("\(kind.phrase(name)); not allowed by 'access'", metadata: [kind.key: "\(detail)"]) }
        warn(about: "\(kind) \(identity.name)", first) { key, count in
            "ignored this \(count) more time\(count == 1 ? "" : "s") in the last minute: "
                + kind.phrase(key == nil ? "several peers" : name)
        }
    }

    /// An act that access rules forbid.
    enum Forbidden: Sendable {
        case service
        case forgedOp
        case forgedHost

        fileprivate func phrase(_ peer: String) -> String {
            switch self {
            case .service: "\(peer) announced a service"
            case .forgedOp: "\(peer) sent a message of another host"
            case .forgedHost: "\(peer) claimed the id of a host that has another identity"
            }
        }

        fileprivate var key: String { self == .service ? "service" : "host" }
    }

    /// - Parameters:
    ///   - first: logs the first event of the key.
    ///   - summary: returns the warning about further events: their key, `nil` for several keys, and their number.
    private func warn(
        about key: String, _ first: () -> Void, summary: @escaping @Sendable (String?, Int) -> String
    ) {
        let now = timers.now.uptimeNanoseconds
        switch rates.withLockedValue({ $0.occurred(key, now: now) }) {
        case .log: first()
        case .count: break
        case .countAndReport(let key, let time):
            timers.scheduleTask(deadline: .uptimeNanoseconds(time)) { [weak self] in
                guard let self else { return }
                let count = rates.withLockedValue { $0.takeCount(key) }
                if count > 0 { log.warning("\(summary(key, count))") }
            }
        }
    }
}
