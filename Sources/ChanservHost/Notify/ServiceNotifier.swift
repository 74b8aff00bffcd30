internal import NIOConcurrencyHelpers

/// Notifies the service manager, if there is one, of the state of a host.
///
/// Messages are queued under the lock, so their order is the order of the calls, and none follows `stopping`.
final class ServiceNotifier: Sendable {
    private struct State {
        var isStopping = false
        var isLastReloadRefused = false
        var watchdog: Task<Void, Never>?
    }

    private let manager: ServiceManager?
    private let state = NIOLockedValueBox(State())

    init(_ manager: ServiceManager?) {
        self.manager = manager
    }

    /// Sends watchdog messages while every event loop responds and `isAlive` returns `true`, until ``stop()``.
    func startWatchdog(isAlive: @escaping @Sendable () async -> Bool) {
        guard let manager else { return }
        let watchdog = Task { await manager.keepWatchdog(isAlive: isAlive) }
        state.withLockedValue { $0.watchdog = watchdog }
    }

    /// Notifies that a reload begins.
    func reloading() {
        state.withLockedValue { if !$0.isStopping { manager?.notifyReloading() } }
    }

    /// Records the result of a reload, for the next status text.
    func reloadEnded(isRefused: Bool) {
        state.withLockedValue { $0.isLastReloadRefused = isRefused }
    }

    /// Sends which routes are served, for example `serving echo, files; drained: ticker`.
    ///
    /// - Parameters:
    ///   - vAddrs: the routes that are not drained.
    ///   - isReady: whether the start or a reload has ended.
    func serving(_ vAddrs: [String], drained: [String], isReady: Bool) {
        guard let manager else { return }
        state.withLockedValue { state in
            if state.isStopping { return }
            var text = vAddrs.isEmpty ? "serving nothing" : "serving \(vAddrs.joined(separator: ", "))"
            if !drained.isEmpty { text += "; drained: \(drained.sorted().joined(separator: ", "))" }
            if state.isLastReloadRefused { text += "; the last reload was refused" }
            manager.tell(isReady ? .ready(status: text) : .status(text))
        }
    }

    /// Notifies that another process is the service from now on, and waits until the message is sent. No message follows
    /// it.
    func handedOver(to pid: Int32) async {
        state.withLockedValue { state in
            state.isStopping = true
            manager?.tell(.mainProcess(pid))
        }
        await stop()
    }

    /// The environment variables with which a process that takes over finds the manager, as `NAME=value`.
    var successorEnvironment: [String] { manager?.successorEnvironment ?? [] }

    /// Notifies that the host stops, unless another process is the service.
    ///
    /// - Parameter status: text for people.
    func stopping(status: String) {
        state.withLockedValue { state in
            if state.isStopping { return }
            state.isStopping = true
            manager?.tell(.stopping(status: status))
        }
    }

    /// Ends the watchdog messages and waits until all messages are sent.
    func stop() async {
        state.withLockedValue { $0.watchdog.take() }?.cancel()
        await manager?.flush()
    }
}
