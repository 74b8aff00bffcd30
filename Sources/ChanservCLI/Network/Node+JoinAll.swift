import AstraNet
import HostConfiguration

extension Node {
    /// Joins all of `addresses` concurrently and waits until each attempt has succeeded or failed.
    ///
    /// - Returns: one message per failed attempt, in no particular order.
    func joinAll(_ addresses: [HostAddress], deadline: ContinuousClock.Instant) async -> [String] {
        await withTaskGroup(of: String?.self) { group in
            for address in addresses {
                group.addTask {
                    do {
                        try await self.join(host: address.host, port: address.port, deadline: deadline)
                        return nil
                    } catch {
                        let reason = (error as? AstraNetError)?.message ?? "\(error)"
                        return reason.hasPrefix("cannot join ") ? reason : "cannot join \(address): \(reason)"
                    }
                }
            }
            return await group.reduce(into: []) { if let failure = $1 { $0.append(failure) } }
        }
    }
}
