internal import CSocket
internal import Glibc
internal import HostConfiguration
internal import Logging
internal import PluginRuntime

/// The replacement of a host by another process, in the host that is replaced.
struct HostReplacement {
    /// The command that starts a new process; `nil` if this host cannot start one.
    var launch: SuccessorLaunch?
    /// The reason why no process may take over; `nil` for none.
    var obstacle: String?
    var machine = UpgradeMachine()
    /// The upgrade that runs.
    var task: Task<UpgradeOutcome, Never>?
    /// The pause before a replaced host withdraws its services. Its clients join the new process meanwhile. Default:
    /// 2 s, or half of the drain time if that is shorter.
    var pause = Duration.seconds(2)

    /// Maximum time for a new process to take over. It loads plugins and creates their instances before.
    static let startTime = Duration.seconds(300)
}

extension PluginHost {
    /// Allows ``upgrade()``.
    ///
    /// - Parameter obstacle: the reason why no other process may take over; `nil`, the default, for none.
    package func allowUpgrades(_ launch: SuccessorLaunch, obstacle: String? = nil) {
        (replacement.launch, replacement.obstacle) = (launch, obstacle)
    }

    /// Waits until another process serves in the place of this host, which then must be shut down. A cancellation ends
    /// the wait.
    package nonisolated func waitUntilReplaced() async {
        await handedOver.wait()
    }

    /// Starts a new process with the program and the configuration of now. It takes over when it is ready. If it does
    /// not start, nothing changes. A second call waits for the result of the first.
    package func upgrade() async -> UpgradeOutcome {
        if let task = replacement.task { return await task.value }
        let task = Task { await replace() }
        replacement.task = task
        return await task.value
    }

    private func replace() async -> UpgradeOutcome {
        defer { replacement.task = nil }
        let outcome = await startSuccessor()
        for reason in outcome.reasons { logger.error("upgrade failed: \(reason)") }
        return outcome
    }

    private func startSuccessor() async -> UpgradeOutcome {
        func failed(_ reasons: [String], _ exitCode: Int32? = nil) -> UpgradeOutcome {
            UpgradeOutcome(
                .failed, pid: replacement.machine.successor ?? getpid(), reasons: reasons, exitCode: exitCode)
        }
        if machine.isStopping, replacement.machine.successor == nil { return failed(["the host is stopping"]) }
        guard let launch = replacement.launch, replacement.obstacle == nil else {
            return failed([replacement.obstacle ?? "this host cannot start another process"])
        }
        guard startedNode?.control != nil else {
            return failed(["no control socket: set 'control' under 'node' and restart the host"])
        }
        if let reason = replacement.machine.requested() { return failed([reason]) }
        let child: ChildProcess
        let report: SuccessorReport
        do throws(ProcessError) {
            (child, report) = try await launch.start(manager?.successorEnvironment ?? [])
        } catch {
            replacement.machine.started(nil)
            return failed([error.description])
        }
        replacement.machine.started(child.id)
        logger.info("upgrade: started process \(child.id)")
        let deadline = ContinuousClock.now + HostReplacement.startTime
        await withTaskGroup(of: Void.self) { [handedOver] group in
            group.addTask { _ = await handedOver.wait(until: deadline) }
            group.addTask { _ = await child.waitForExit(until: deadline) }
            await group.next()
            group.cancelAll()
        }
        if replacement.machine.finished(child.id) { return UpgradeOutcome(.upgraded, pid: child.id) }
        guard let exit = child.exit else {
            await child.kill()
            let time = ValueGrammar.text(HostReplacement.startTime)
            return failed(["process \(child.id) did not take over within \(time) and was killed"])
        }
        var code: Int32?
        if case .exited(let number) = exit { code = number }
        let reasons = report.read()
        return failed(reasons.isEmpty ? ["the new process \(child.id) \(exit); see the log"] : reasons, code)
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
        if let reason = replacement.machine.askedToHandOver(by: pid) { throw ControlError(.refused, reason) }
        await network.goAway()
        if let place = await control?.moveAside() {
            logger.info("process \(pid) takes over; this process keeps the control socket \(quoted(place))")
        }
        manager?.tell(.mainProcess(pid))
        await manager?.flush()
        handedOver.happened()
        return HandOverReport(pid: getpid())
    }

    private func replaceableNetwork() throws(ControlError) -> any ReplaceableNetwork {
        if let pid = replacement.machine.successor {
            throw ControlError(.refused, "process \(pid) has taken over already")
        }
        if machine.isStopping { throw ControlError(.stopping, "the host is stopping") }
        if let obstacle = replacement.obstacle { throw ControlError(.refused, obstacle) }
        guard let network = network as? any ReplaceableNetwork, readySince != nil else {
            throw ControlError(.refused, "the host is not ready")
        }
        return network
    }

    // MARK: - The stop

    /// Lets clients join the new process before the services are withdrawn. A cancellation ends the wait.
    func waitForClientsToMove(until deadline: ContinuousClock.Instant) async {
        let now = ContinuousClock.now
        do {
            try await Task.sleep(
                until: min(now + replacement.pause, now + now.duration(to: deadline) / 2), clock: .continuous)
        } catch {}
    }
}
