internal import PluginRuntime

/// Restarts of worker processes.
extension WorkerInstance {
    /// Restarts a process each time it ends, until the instance is retired.
    func supervise(_ number: Int, _ first: WorkerProcess) async {
        var process = first
        var backoff = RestartBackoff()
        while true {
            let ready = ContinuousClock.now
            await process.waitForEnd()
            let isRetiring = state.withLockedValue { state in
                state.slots[number].process = nil
                state.past += process.statistics
                return state.isRetiring
            }
            if isRetiring { return await process.end() }
            var reason = await process.reasonForEnd(within: .zero) ?? "its process has ended"
            await process.end()
            var lifetime = ContinuousClock.now - ready
            while true {
                let pause = backoff.ended(after: lifetime, chance: .random(in: 0...1))
                recordEnd(number, reason, pause)
                do { try await Task.sleep(for: pause) } catch { return }
                state.withLockedValue { if !$0.isRetiring { $0.slots[number].state = .starting } }
                do throws(PluginError) {
                    let next = try await handling.start()
                    guard takeOver(next, in: number) else { return await next.end() }
                    process = next
                    break
                } catch {
                    if state.withLockedValue({ $0.isRetiring }) { return }
                    reason = error.message
                    lifetime = .zero
                }
            }
        }
    }

    /// - Returns: whether the instance still needs the process.
    private func takeOver(_ process: WorkerProcess, in number: Int) -> Bool {
        let isWanted = state.withLockedValue { state in
            guard !state.isRetiring else { return false }
            state.slots[number].process = process
            state.slots[number].state = .serving
            state.slots[number].restarts += 1
            return true
        }
        wakeWaiting()
        if isWanted { handling.logger.info("plugin \(name): serving again in process \(process.id)") }
        return isWanted
    }

    private func recordEnd(_ number: Int, _ reason: String, _ pause: Duration) {
        state.withLockedValue { state in
            state.slots[number].state = .pausing(until: .now + pause)
            state.slots[number].lastEnd = reason
        }
        let milliseconds = Int((pause / .milliseconds(1)).rounded())
        handling.logger.error("plugin \(name): \(reason); restarting it in \(milliseconds) ms")
        onCrash("plugin \(name): \(reason)")
    }
}
