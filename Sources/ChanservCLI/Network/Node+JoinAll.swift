import AstraNet
import ChanservHost
import HostConfiguration

extension Node {
    private static let firstPause = Duration.milliseconds(50)
    private static let longestPause = Duration.milliseconds(500)

    /// Joins all of `targets` concurrently and waits until each attempt has succeeded or failed.
    ///
    /// If none succeeds, addresses that refused the connection are tried again until the deadline, because their nodes
    /// may be starting.
    ///
    /// - Returns: one message per address that was not joined, in no particular order.
    func joinAll(_ targets: JoinTargets, deadline: ContinuousClock.Instant) async -> [String] {
        let addresses = targets.addresses
        var failures: [HostAddress: AstraNetError] = [:]
        var attempts = addresses
        var pause = Self.firstPause
        while true {
            let results = await attempt(attempts, targets.security, deadline: deadline)
            for address in attempts { failures[address] = results[address] }
            let isJoined = failures.count < Set(addresses).count
            attempts = results.filter { $0.value.code == .connectionRefused }.map(\.key)
            guard !isJoined, !attempts.isEmpty, .now + pause < deadline else { break }
            do {
                try await Task.sleep(for: pause)
            } catch {
                break  // The session is ending.
            }
            pause = min(pause * 2, Self.longestPause)
        }
        return failures.map { address, error in
            error.message.hasPrefix("cannot join ") ? error.message : "cannot join \(address): \(error.message)"
        }
    }

    /// Returns the failed attempts.
    private func attempt(
        _ addresses: [HostAddress], _ security: HostSecurity, deadline: ContinuousClock.Instant
    ) async -> [HostAddress: AstraNetError] {
        await withTaskGroup(of: (HostAddress, AstraNetError)?.self) { group in
            for address in addresses {
                group.addTask {
                    do throws(AstraNetError) {
                        try await self.join(
                            NodeAddress(address), security: security.join(address), deadline: deadline)
                        return nil
                    } catch {
                        return (address, error)
                    }
                }
            }
            return await group.reduce(into: [:]) { failed, result in
                if let (address, error) = result { failed[address] = error }
            }
        }
    }
}
