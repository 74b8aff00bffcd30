internal import Chanserv
internal import Logging
internal import NIOConcurrencyHelpers

/// The routes and instances that were removed and whose requests have not ended. Every instance that was current ends
/// here.
final class Departures: Sendable {
    private struct State {
        var routes: [RouteID: Task<Void, Never>] = [:]
        var instances: [InstanceID: (instance: RunningInstance, task: Task<Void, Never>)] = [:]
    }

    private let table: ServingTable
    private let state = NIOLockedValueBox(State())

    init(from table: ServingTable) {
        self.table = table
    }

    /// The instances that have not been destroyed, the oldest first.
    var instances: [RunningInstance] {
        state.withLockedValue { $0.instances.sorted { $0.key < $1.key }.map(\.value.instance) }
    }

    /// Withdraws a route at once and lets its requests end until `deadline`.
    ///
    /// - Parameter reason: the error that clients get whose requests are cancelled.
    func remove(_ route: RunningRoute, deadline: ContinuousClock.Instant, reason: String, logger: Logger) {
        route.service.stopAccepting()
        // The lock is held until the task is recorded, so that the task cannot remove its record before.
        state.withLockedValue { state in
            state.routes[route.id] = Task {
                let left = await route.service.drain(until: deadline, reason: reason)
                if left > 0 {
                    logger.warning("route '\(route.planned.vAddr)': \(left) cancelled requests have not ended")
                }
                table.left(route.id)
                route.log.detach()
                self.state.withLockedValue { $0.routes[route.id] = nil }
            }
        }
    }

    /// Destroys an instance that no current route uses, after its last request has ended. That is shortly after
    /// `deadline` at the latest.
    ///
    /// - Parameter reason: the error that clients get whose requests are cancelled. `nil`: the plugin was replaced.
    func retire(_ instance: RunningInstance, deadline: ContinuousClock.Instant, reason: String?, logger: Logger) {
        state.withLockedValue { state in
            let task = Task {
                // Routes that are being unbound may still lead requests to it.
                _ = await instance.released.wait(until: deadline)
                let end = await instance.plugin.retire(instance.id, in: table.open, deadline: deadline, reason: reason)
                logger.debug("instance \(instance.key) retired", metadata: ["result": "\(end)"])
                self.state.withLockedValue { $0.instances[instance.id] = nil }
            }
            state.instances[instance.id] = (instance, task)
        }
    }

    /// Waits until all have ended, and cancels their requests at the deadline. Cancelling the waiting task ends the
    /// wait like the deadline.
    ///
    /// - Parameter onCancel: called before the requests are cancelled, with whether that is before the deadline.
    func wait(until deadline: ContinuousClock.Instant, onCancel: @escaping @Sendable (Bool) async -> Void) async {
        // Those of earlier reloads may have later deadlines.
        let ends = state.withLockedValue { $0.routes.values + $0.instances.values.map(\.task) }
        await withTaskGroup { group in
            for end in ends { group.addTask { await end.value } }
            let deadlineTask = Task {
                do { try await Task.sleep(until: deadline, clock: .continuous) } catch {}
                await onCancel(.now < deadline)
                for end in ends { end.cancel() }
            }
            await withTaskCancellationHandler {
                await group.waitForAll()
            } onCancel: {
                deadlineTask.cancel()
            }
            deadlineTask.cancel()
        }
    }
}
