internal import Logging

extension Host {
    /// Stops accepting, lets running requests end, cancels what is left at the deadline, destroys all instances, and
    /// closes all links. Cancelling the task that waits makes it the deadline. Repeating it waits for the first.
    ///
    /// While the host is starting there are no requests: what was made so far is undone, and a create that runs gets
    /// the same time to return.
    ///
    /// - Parameter drain: how long requests may go on; `nil`, the default, is what the configuration says
    ///   (`node.drain`, 30 s by default), or 1 s while the host is starting.
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
        logger.info("stopping: no new requests, up to \(drain) for those that run")
        manager?.tell(.stopping(status: "stopping: up to \(drain) for requests that run"))
        // First of all nothing new comes in, even while a reload finds its way back.
        for route in routes { route.service.stopAccepting() }
        if await !lastReloadEnded.wait(until: deadline) {
            logger.warning("a start or reload has not given up in time: a plugin's create does not return")
        }
        await tearDown(deadline: deadline)
        logger.info("stopped")
    }

    /// Ends everything that runs.
    func tearDown(deadline: ContinuousClock.Instant) async {
        let reason = "the host stopped and its time to drain is over"
        for route in routes { remove(route, deadline: deadline, reason: reason) }
        for instance in table.publish([:]) { retire(instance, deadline: deadline, reason: reason) }
        for drain in drains.values { drain.cancel() }
        drains = [:]
        routes = []
        instances = [:]
        for join in joins { join.cancel() }
        joins = []

        // Those of former reloads may have later deadlines.
        let ends = leaving.values + retiring.values.map(\.task)
        await withTaskGroup { group in
            for end in ends { group.addTask { await end.value } }
            let alarm = Task {
                do { try await Task.sleep(until: deadline, clock: .continuous) } catch {}
                for end in ends { end.cancel() }
            }
            await withTaskCancellationHandler {
                await group.waitForAll()
            } onCancel: {
                alarm.cancel()
            }
            alarm.cancel()
        }
        await network.take()?.shutdown()
        // Last: how the rest ends can be watched.
        await control.take()?.stop()
        for former in formerControls { await former.stop() }
        formerControls = []
        watchdog?.cancel()
        await manager?.flush()
        threads.retire()
        stopped.happened()
    }
}
