internal import CSocket
internal import Glibc
package import HostConfiguration
internal import Logging
internal import PluginRuntime

/// The network of a host that can be replaced by another process.
package protocol ReplaceableNetwork: HostNetwork {
    /// Listens as ``HostNetwork/listen(at:)`` does. Uses the inherited socket for the address, if there is one, and
    /// accepts connections there after ``startAccepting()``.
    func listen(at address: HostAddress, inheriting sockets: InheritedListeners) async throws -> HostAddress

    /// Accepts connections at inherited sockets.
    func startAccepting() async

    /// Duplicates of the listening sockets, in the order in which they were opened. The caller owns the descriptors.
    func duplicateListeners() async throws -> [(address: HostAddress, descriptor: Int32)]

    /// Stops listening, and tells other nodes to use their links to other hosts, or to join again.
    func goAway() async

    /// Closes each link when it has no streams.
    func closeIdleLinks()

    /// Waits while links are open over which this node has forwarded streams. A cancellation ends the wait.
    func waitForForwardedStreams(until deadline: ContinuousClock.Instant) async
}

/// The replacement of a host by another process, in the host that is replaced. ``UpgradeMachine`` decides.
package actor HostReplacement {
    /// Maximum time for a new process to take over: 5 minutes. It loads plugins and creates their instances before.
    private static let startTime = Duration.seconds(300)
    /// The pause before a replaced host withdraws its services. Its clients join the new process meanwhile.
    private static let movingTime = Duration.seconds(2)
    /// The time for routers to send on what they have received from a replaced host.
    private static let forwardingTime = Duration.seconds(3)

    private let notifier: ServiceNotifier
    private var logger: Logger
    private var machine = UpgradeMachine()
    /// The command that starts a new process; `nil` if this host cannot start one.
    private var launch: SuccessorLaunch?
    /// The reason why no process may take over; `nil` for none.
    private var obstacle: String?
    /// The network of the host while it serves; `nil` before, and if it cannot be handed over.
    private var network: (any ReplaceableNetwork)?
    private var control: ControlSocket?
    private var isStopping = false
    /// The upgrade that runs.
    private var task: Task<UpgradeOutcome, Never>?
    /// Happens when another process has taken over.
    private let handedOver = OneTimeEvent()

    init(_ notifier: ServiceNotifier, logger: Logger) {
        self.notifier = notifier
        self.logger = logger
    }

    /// Allows ``upgrade()``.
    ///
    /// - Parameter obstacle: the reason why no other process may take over; `nil`, the default, for none.
    package func allowUpgrades(_ launch: SuccessorLaunch, obstacle: String? = nil) {
        (self.launch, self.obstacle) = (launch, obstacle)
    }

    /// Waits until another process serves in the place of this host, which then must be shut down. A cancellation ends
    /// the wait.
    package nonisolated func waitUntilReplaced() async {
        await handedOver.wait()
    }

    /// The process that serves instead of this host; `nil` before the hand-over.
    var successor: Int32? { machine.successor }

    /// Handles that the host serves.
    func ready(_ network: any HostNetwork, _ control: ControlSocket?, logger: Logger) {
        self.network = network as? any ReplaceableNetwork
        self.control = control
        self.logger = logger
    }

    /// Handles that the host stops. No process takes over from now on.
    ///
    /// - Returns: the process that has taken over; `nil` if none has.
    func stop() -> Int32? {
        isStopping = true
        return machine.successor
    }

    /// Lets clients join the new process before the services are withdrawn. A cancellation ends the wait.
    static func waitForClientsToMove(until deadline: ContinuousClock.Instant) async {
        await pause(until: min(.now + movingTime, .now + ContinuousClock.now.duration(to: deadline) / 2))
    }

    /// Lets routers send on the last bytes of the streams of this host. A router that loses the link to a host ends the
    /// streams that it forwards for it, whether or not their last bytes have left it. A cancellation ends the wait.
    static func waitForRouters(until deadline: ContinuousClock.Instant) async {
        await pause(until: min(.now + forwardingTime, deadline))
    }

    private static func pause(until end: ContinuousClock.Instant) async {
        do {
            try await Task.sleep(until: end, clock: .continuous)
        } catch {
            // A second signal of the operator ends the stop at once.
        }
    }

    // MARK: - The new process

    /// Starts a new process with the program and the configuration of now. It takes over when it is ready. If it does
    /// not start, nothing changes. A second call waits for the result of the first.
    package func upgrade() async -> UpgradeOutcome {
        if let task { return await task.value }
        let task = Task {
            let outcome = await startSuccessor()
            for reason in outcome.reasons { logger.error("upgrade failed: \(reason)") }
            self.task = nil
            return outcome
        }
        self.task = task
        return await task.value
    }

    private func startSuccessor() async -> UpgradeOutcome {
        if isStopping, machine.successor == nil { return failed(["the host is stopping"]) }
        guard let launch, obstacle == nil else {
            return failed([obstacle ?? "this host cannot start another process"])
        }
        guard control != nil else {
            return failed(["no control socket: set 'control' under 'node' and restart the host"])
        }
        if let reason = machine.requested() { return failed([reason]) }
        let child: ChildProcess
        let report: SuccessorReport
        do throws(ProcessError) {
            (child, report) = try await launch.start(notifier.successorEnvironment)
        } catch {
            machine.started(nil)
            return failed([error.description])
        }
        machine.started(child.id)
        logger.info("upgrade: started process \(child.id)")
        let deadline = ContinuousClock.now + Self.startTime
        await withTaskGroup(of: Void.self) { [handedOver] group in
            group.addTask { _ = await handedOver.wait(until: deadline) }
            group.addTask { _ = await child.waitForExit(until: deadline) }
            await group.next()
            group.cancelAll()
        }
        if machine.finished(child.id) { return UpgradeOutcome(.upgraded, pid: child.id) }
        guard let exit = child.exit else {
            await child.kill()
            let time = ValueGrammar.text(Self.startTime)
            return failed(["process \(child.id) did not take over within \(time) and was killed"])
        }
        var code: Int32?
        if case .exited(let number) = exit { code = number }
        let reasons = report.read()
        return failed(reasons.isEmpty ? ["the new process \(child.id) \(exit); see the log"] : reasons, exitCode: code)
    }

    private func failed(_ reasons: [String], exitCode: Int32? = nil) -> UpgradeOutcome {
        UpgradeOutcome(.failed, pid: machine.successor ?? getpid(), reasons: reasons, exitCode: exitCode)
    }

    // MARK: - Requests of the new process

    /// Duplicates of the listening sockets, with their addresses in the configuration. The caller owns them.
    func duplicateListeners() async throws(ControlError) -> [(address: HostAddress, descriptor: Int32)] {
        let network = try replaceableNetwork()
        let listeners: [(address: HostAddress, descriptor: Int32)]
        do {
            listeners = try await network.duplicateListeners()
        } catch {
            throw ControlError(.refused, "\(error)")
        }
        guard listeners.count <= Int(chanserv_message_descriptors) else {
            for listener in listeners { close(listener.descriptor) }
            throw ControlError(.refused, "it has more listening sockets than can be handed over; restart it")
        }
        return listeners
    }

    /// Stops accepting connections, because the process `pid` is ready to accept them. Connections that arrive in
    /// between wait in the queue of the socket, which both processes have.
    func handOver(to pid: Int32) async throws(ControlError) -> HandOverReport {
        let network = try replaceableNetwork()
        // The process may have been killed after it sent the request.
        guard kill(pid, 0) == 0 || errno == EPERM else {
            throw ControlError(.refused, "process \(pid) has ended")
        }
        if let reason = machine.askedToHandOver(by: pid) { throw ControlError(.refused, reason) }
        logger.info("process \(pid) takes over")
        await network.goAway()
        await control?.moveAside()
        await notifier.handedOver(to: pid)
        handedOver.happened()
        return HandOverReport(pid: getpid())
    }

    private func replaceableNetwork() throws(ControlError) -> any ReplaceableNetwork {
        if let pid = machine.successor { throw ControlError(.refused, "process \(pid) has taken over already") }
        if isStopping { throw ControlError(.stopping, "the host is stopping") }
        if let obstacle { throw ControlError(.refused, obstacle) }
        guard let network else { throw ControlError(.refused, "the host is not ready") }
        return network
    }
}
