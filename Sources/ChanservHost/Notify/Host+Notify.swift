internal import Chanserv

extension Host {
    /// Tells the service manager that the host is alive, for as long as it is: this actor and every event loop must answer.
    func startWatchdog() {
        guard let manager else { return }
        // Until the host has shut down, and not longer than there is one.
        watchdog = Task { [weak self] in
            await manager.keepWatchdog { [weak self] in
                guard let self else { return false }
                return await self.answers()
            }
        }
    }

    /// Answers, which only an actor that is not stuck does.
    private func answers() -> Bool { true }

    /// Tells the service manager what the host serves, unless it is ending.
    func tellServing(isReady: Bool = false) {
        guard let manager, !machine.isStopping else { return }
        manager.tell(isReady ? .ready(status: servingText) : .status(servingText))
    }

    /// One line, e.g. `serving echo, files; drained: ticker`.
    private var servingText: String {
        let disabled = Set(disabledRoutes)
        let served = routes.map(\.planned.vAddr).filter { !disabled.contains($0) }
        var text = served.isEmpty ? "serving nothing" : "serving \(served.joined(separator: ", "))"
        if !disabled.isEmpty { text += "; drained: \(disabled.sorted().joined(separator: ", "))" }
        if lastReload?.outcome.result == .refused { text += "; the last reload was refused" }
        return text
    }
}
