internal import Chanserv
internal import HostConfiguration
internal import Logging

extension PluginHost {
    /// Returns the open requests of a vAddr, or of all.
    ///
    /// - Parameters:
    ///   - vAddr: `nil` for all requests. The open requests of a removed route are included.
    ///   - limit: how many requests are described, the oldest first.
    /// - Throws: ``RouteError`` if there is neither such a route nor a request of it.
    func openRequests(of vAddr: String?, limit: Int) throws(RouteError) -> HostRequests {
        var scopes = table.open.requests()
        if let vAddr {
            scopes.removeAll { $0.service.vAddr != vAddr }
            let known = routes.map(\.planned.vAddr)
            if scopes.isEmpty, !known.contains(vAddr) {
                throw RouteError(.unknown(nearest: NearestKey.find(vAddr, among: known)), vAddr)
            }
        }
        return HostRequests(oldest: scopes.prefix(limit).map(\.status), total: scopes.count)
    }

    /// Ends an open request. Its client gets an error that names the operator and the reason.
    ///
    /// - Parameters:
    ///   - id: the number of the request, see ``OpenRequest/id``.
    ///   - reason: free text; `nil` for none.
    /// - Returns: the vAddr of the request; `nil` if no request with this number is open.
    func cancelRequest(_ id: UInt64, reason: String?) -> String? {
        let text = "cancelled by the operator" + (reason.map { ": \($0)" } ?? "")
        guard let scope = table.open.request(id: id), table.open.cancel(id: id, reason: text) else { return nil }
        let vAddr = scope.service.vAddr
        logger.info("route '\(vAddr)': request \(id) was \(text)", metadata: ["route": "\(vAddr)"])
        return vAddr
    }
}

/// Open requests of a host.
struct HostRequests: Sendable {
    var oldest: [OpenRequest]
    /// How many requests are open.
    var total: Int
}
