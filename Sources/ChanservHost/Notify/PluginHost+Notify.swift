internal import Chanserv

extension PluginHost {
    /// Sends watchdog messages to the service manager while this actor and every event loop respond.
    func startWatchdog() {
        guard let manager else { return }
        // The task runs until the host has shut down. It does not keep the host alive.
        watchdog = Task { [weak self] in
            await manager.keepWatchdog { [weak self] in
                guard let self else { return false }
                return await self.answers()
            }
        }
    }

    /// Returns `true`. The call returns only if the actor is responsive.
    private func answers() -> Bool { true }

    /// Sends the status of the host to the service manager, unless the host is stopping.
    func tellServing(isReady: Bool = false) {
        guard let manager, !machine.isStopping else { return }
        manager.tell(isReady ? .ready(status: servingText) : .status(servingText))
    }

    /// Status in one line, for example `serving echo, files; drained: ticker`.
    private var servingText: String {
        let disabled = Set(disabledRoutes)
        let served = routes.map(\.planned.vAddr).filter { !disabled.contains($0) }
        var text = served.isEmpty ? "serving nothing" : "serving \(served.joined(separator: ", "))"
        if !disabled.isEmpty { text += "; drained: \(disabled.sorted().joined(separator: ", "))" }
        if lastReload?.outcome.result == .refused { text += "; the last reload was refused" }
        return text
    }
}
