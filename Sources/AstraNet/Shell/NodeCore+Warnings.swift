internal import Logging
internal import NIOCore

extension NodeCore {
    /// Logs a warning about a connection from an address that this node closed, at most once a minute per address.
    func warnClosed(_ failure: HandshakeFailure, from address: SocketAddress?, _ log: Logger) {
        let key = address?.ipAddress ?? ""
        warn(about: key, { log.warning("\(failure.warning(about: address?.printed ?? ""))") }) { key, count in
            let source = key.map { $0.isEmpty ? "" : " from \($0)" } ?? " from other addresses"
            return "closed \(count) more connection\(count == 1 ? "" : "s")\(source) in the last minute that sent no "
                + "valid handshake"
        }
    }

    /// Logs a warning about a connection that the limit of links refused, at most once a minute.
    func warnRefused(from address: String) {
        let limit = "\(configuration.maximumLinks) links is reached (node.limits.links)"
        warn(about: "limit of links", { log.warning("refused a connection from \(address): the limit of \(limit)") }) {
            "refused \($1) more connection\($1 == 1 ? "" : "s") in the last minute: the limit of \(limit)"
        }
    }

    /// - Parameters:
    ///   - first: logs the first event of the key.
    ///   - summary: returns the warning about further events: their key, `nil` for several keys, and their number.
    private func warn(
        about key: String, _ first: () -> Void, summary: @escaping @Sendable (String?, Int) -> String
    ) {
        let now = now
        switch warnings.withLockedValue({ $0.occurred(key, now: now) }) {
        case .log: first()
        case .count: break
        case .countAndReport(let key, let time):
            timers.scheduleTask(deadline: .uptimeNanoseconds(time)) { [weak self] in
                guard let self else { return }
                let count = warnings.withLockedValue { $0.takeCount(key) }
                if count > 0 { log.warning("\(summary(key, count))") }
            }
        }
    }
}
