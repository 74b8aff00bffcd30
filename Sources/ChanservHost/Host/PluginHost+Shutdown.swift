internal import HostConfiguration
internal import Logging

extension PluginHost {
    /// Stops accepting requests and waits for running ones. At the deadline cancels the rest, destroys all instances
    /// and closes all links. Cancelling the waiting task ends the wait like the deadline. A second call waits for the
    /// first.
    ///
    /// If the host is still starting, there are no requests. The host undoes what it has created, and a running
    /// `create` of a plugin has until the deadline to return.
    ///
    /// - Parameter drain: time for running requests. `nil`, the default, uses `node.drain` of the configuration (30 s
    ///   by default), or 1 s while the host is starting.
    public func shutdown(drain: Duration? = nil) async {
        switch machine.stop() {
        case .doNothing:
            return await stopped.wait()
        case .stop:
            lastReloadEnded.happened()
        case .giveUp: break
        }
        let drain = drain ?? configuration?.node.drain ?? .seconds(1)
        let deadline = ContinuousClock.now + drain
        stopping = (.now, drain)
        let time = ValueGrammar.text(drain)
        if let successor = replacement.machine.successor {
            // The service manager knows the other process as the service, so it is not told about this end.
            logger.info("process \(successor) serves now; up to \(time) for the requests that run here")
            await waitForClientsToMove(until: deadline)
        } else {
            logger.info("stopping: no new requests, up to \(time) for running ones")
            manager?.tell(.stopping(status: "stopping: up to \(time) for requests that run"))
        }
        // Before the wait for the reload, so that no new request is accepted meanwhile.
        for route in routes { route.service.stopAccepting() }
        if replacement.machine.successor != nil { (network as? any ReplaceableNetwork)?.closeIdleLinks() }
        if await !lastReloadEnded.wait(until: deadline) {
            logger.warning("the start or reload did not end in time: a plugin's create function does not return")
        }
        await tearDown(deadline: deadline)
        logger.info("stopped")
    }

    /// Logs how many requests the stop cancels.
    ///
    /// - Parameter isEarly: whether the wait for requests ends before its deadline.
    private func reportCancelled(isEarly: Bool) {
        let count = table.open.countByGeneration.values.reduce(0, +)
        guard count > 0, let drain = stopping?.drain else { return }
        let reason = isEarly ? "the drain was ended early" : "the drain time of \(ValueGrammar.text(drain)) is over"
        logger.warning("cancelled \(count) open request\(count == 1 ? "" : "s"): \(reason)")
    }

    /// Ends all routes, instances and links.
    func tearDown(deadline: ContinuousClock.Instant) async {
        let reason = "the host stopped and its time to drain is over"
        // At the deadline the requests are first counted, and then cancelled with these tasks.
        let later = deadline + .seconds(1)
        for route in routes { remove(route, deadline: later, reason: reason) }
        for instance in table.publish([:]) { retire(instance, deadline: later, reason: reason) }
        for drain in drains.values { drain.cancel() }
        drains = [:]
        routes = []
        instances = [:]
        folderWatch.take()?.cancel()
        for join in joins { join.cancel() }
        joins = []

        // Drains of earlier reloads may have later deadlines.
        let ends = leaving.values + retiring.values.map(\.task)
        await withTaskGroup { group in
            for end in ends { group.addTask { await end.value } }
            let deadlineTask = Task {
                do { try await Task.sleep(until: deadline, clock: .continuous) } catch {}
                reportCancelled(isEarly: .now < deadline)
                for end in ends { end.cancel() }
            }
            await withTaskCancellationHandler {
                await group.waitForAll()
            } onCancel: {
                deadlineTask.cancel()
            }
            deadlineTask.cancel()
        }
        await network.take()?.shutdown()
        if let accessLog { await flush(accessLog) }
        // Last, so that operators can watch the shutdown.
        await control.take()?.stop()
        for former in formerControls { await former.stop() }
        formerControls = []
        watchdog?.cancel()
        await manager?.flush()
        threads.retire()
        stopped.happened()
    }
}
