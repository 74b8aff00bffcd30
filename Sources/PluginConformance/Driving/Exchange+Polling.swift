internal import CChanservPlugin
internal import Glibc
internal import PluginRuntime

/// The work of the threads of an exchange.
extension Exchange {
    /// Returns the next unit for the thread with this number; `nil` if no work will follow.
    func next(for thread: Int, of threads: Int) -> Int? {
        let next: Int?? = state.wait { state in
            if state.isStopping { return .some(nil) }
            let index = state.ready.firstIndex { unit in
                if overlapsWithinCall || !state.units[family(of: unit, state)].isFamilyBusy {
                    return !options.movesBetweenThreads
                        || (state.busy == 0 && state.units[unit].polls % threads == thread)
                }
                return false
            }
            if let index {
                let unit = state.ready.remove(at: index)
                state.units[unit].phase = .running
                state.units[family(of: unit, state)].isFamilyBusy = true
                state.busy += 1
                return .some(unit)
            }
            return state.isSettled ? .some(nil) : nil
        }
        return next ?? nil
    }

    /// Opens or polls a unit once.
    func work(on unit: Int) {
        let (kind, answer) = state.with { ($0.units[unit].kind, $0.units[unit].answer) }
        if case .request(let body) = kind {
            open(unit, body, answer)
        } else {
            poll(unit, kind)
        }
        state.with { state in
            state.busy -= 1
            state.units[family(of: unit, state)].isFamilyBusy = false
            state.lastEvent = monotonicNanoseconds()
        }
    }

    /// A poll of a blocking plugin may last as long as its object, so polls must overlap.
    private var overlapsWithinCall: Bool { options.overlapsWithinCall || plugin.descriptor.isBlocking }

    /// Returns the call that the unit is or belongs to.
    private func family(of unit: Int, _ state: State) -> Int { state.units[unit].call ?? unit }

    private func open(_ unit: Int, _ body: [UInt8], _ answer: Int) {
        let (call, reply) = instance.open(body)
        guard let call else {
            state.with { state in
                state.answers[answer].refusal = (reply.status, reply.message)
                state.units[unit].phase = .finished
            }
            return
        }
        let handle = WakeHandles.insert { [weak self] in self?.woke(unit) }
        let sink = StrictSourceSink(options.sources, wakeHandle: handle, findings: plugin.findings) {
            [weak self] pointer, header in self?.took(pointer, header, of: unit)
        }
        state.with { state in
            state.units[unit].kind = .call(sink)
            state.units[unit].pointer = call
            state.units[unit].handle = handle
        }
        intervene(unit, after: nil)
    }

    private func poll(_ unit: Int, _ kind: Kind) {
        let (pointer, object, isCancelled) = state.with { state in
            // A poll without a wake keeps the count from the poll that returned PENDING.
            if !state.units[unit].wakeTimedOut { state.units[unit].wakesBeforePoll = state.units[unit].wakes }
            return (state.units[unit].pointer, state.units[unit].object, state.units[unit].pollsLeft != nil)
        }
        guard let pointer else { preconditionFailure("a unit is polled before it is opened") }
        // The plan of a source is asked before its first poll too.
        if !object.isCall, object.polls == 0, !isCancelled, let plan = options.plan, plan(object) != .goOn {
            return intervene(unit, after: nil)
        }
        let canceller: CaseThread? =
            if options.cancelsDuringPoll?(object) == true {
                CaseThread { [self] in for _ in 0..<2 { cancel(unit) } }
            } else {
                nil
            }
        let outcome = callPoll(kind, pointer)
        canceller?.join()
        if canceller != nil { state.with { $0.units[unit].pollsLeft = 3 } }
        note(outcome, of: unit)
        intervene(unit, after: outcome)
    }

    /// The result of one poll: the reply of the plugin, and what the sink accepted.
    struct Outcome {
        var reply: TestedPlugin.Reply
        var frames: [Fingerprint] = []
        var taken: Int
        var wasFull: Bool
        var refusedSize: Bool

        var isPending: Bool { reply.status == CHANSERV_PENDING }
        /// END, an error, or a status that counts as one.
        var isOver: Bool { reply.status != CHANSERV_PENDING && reply.status != CHANSERV_READY }

        var ending: Ending {
            reply.status == CHANSERV_END ? .end : .failed(status: reply.status, message: reply.message)
        }
    }

    private func callPoll(_ kind: Kind, _ pointer: PluginPointer) -> Outcome {
        switch kind {
        case .request:
            preconditionFailure("a request is opened, not polled")
        case .call(let sink):
            let reply = instance.pollSources(pointer, sink)
            return Outcome(reply: reply, taken: sink.count, wasFull: sink.wasFull, refusedSize: sink.refusedSize)
        case .source(let sink, _):
            let reply = instance.pollFrames(pointer, sink)
            return Outcome(
                reply: reply, frames: sink.frames, taken: sink.frames.count, wasFull: sink.wasFull,
                refusedSize: sink.refusedSize)
        }
    }

    /// Records the result of a poll and the rules that it broke.
    private func note(_ outcome: Outcome, of unit: Int) {
        let isCall = state.with { state in
            state.units[unit].polls += 1
            let answer = state.units[unit].answer
            if case .source(_, let number) = state.units[unit].kind {
                state.answers[answer].sources[number].frames += outcome.frames
                if outcome.isOver { state.answers[answer].sources[number].ending = outcome.ending }
            } else if outcome.isOver {
                state.answers[answer].ending = outcome.ending
            }
            state.frames += outcome.frames.count
            state.bytes += outcome.frames.reduce(0) { $0 + $1.size }
            if state.frames >= options.frameLimit || state.bytes >= options.byteLimit { state.isStopping = true }
            if outcome.isPending { state.pendings += 1 }
            return state.units[unit].call == nil
        }
        let name = isCall ? "poll_sources" : "poll_frames"
        if outcome.wasFull, outcome.reply.status == CHANSERV_PENDING || outcome.reply.status == CHANSERV_END {
            let answer = outcome.reply.status == CHANSERV_END ? "END" : "PENDING"
            plugin.findings.record(
                .afterFull,
                "\(name) returned CHANSERV_\(answer) although the sink had returned CHANSERV_FULL")
        }
        noteMissedWake(outcome, of: unit, name)
    }

    /// Reports a missing wake: the object returned PENDING, and a poll without a wake then brought something. Waits 1 s
    /// for a late wake.
    private func noteMissedWake(_ outcome: Outcome, of unit: Int, _ name: String) {
        let wasImpatient = state.with { state in
            defer { state.units[unit].wakeTimedOut = false }
            return state.units[unit].wakeTimedOut
        }
        guard wasImpatient, outcome.taken > 0 || outcome.isOver else { return }
        let came: Bool? = state.wait(until: monotonicTime(in: .seconds(1))) { state in
            state.units[unit].wakes > state.units[unit].wakesBeforePoll ? true : nil
        }
        if came == nil {
            let what = outcome.taken > 0 ? "had more" : "had come to an end"
            plugin.findings.record(
                .missedWake, "\(name) returned CHANSERV_PENDING and later \(what), but host->wake was not called")
        }
    }

    /// Applies the plan after a poll, or before the first one.
    private func intervene(_ unit: Int, after outcome: Outcome?) {
        let object = state.with { $0.units[unit].object }
        let isCancelled = state.with { $0.units[unit].pollsLeft != nil }
        let intervention = isCancelled ? .goOn : options.plan?(object) ?? .goOn
        switch intervention {
        case .goOn: break
        case .close: return finish(unit)
        case .cancelAndClose:
            cancel(unit)
            return finish(unit)
        case .cancel:
            cancel(unit)
            state.with { $0.units[unit].pollsLeft = 3 }
            if outcome?.isPending == true { awaitCancelWake(of: unit, object) }
        }
        guard outcome?.isOver != true else { return finish(unit) }
        let isDone: Bool = state.with { state in
            if outcome != nil, let left = state.units[unit].pollsLeft {
                guard left > 0 else { return true }
                state.units[unit].pollsLeft = left - 1
            }
            return false
        }
        if isDone { return finish(unit) }
        goOn(unit, after: outcome)
    }

    private func goOn(_ unit: Int, after outcome: Outcome?) {
        let isLivelock: Bool = state.with { state in
            let wasWoken = state.units[unit].wakes > state.units[unit].wakesBeforePoll
            if outcome?.isPending == true, !wasWoken {
                guard options.pollsUnasked, state.units[unit].unaskedLeft > 0 else {
                    state.units[unit].phase = .waiting
                    state.units[unit].waitsSince = monotonicNanoseconds()
                    state.units[unit].unaskedLeft = 3
                    return false
                }
                state.units[unit].unaskedLeft -= 1
            }
            let isIdle = outcome.map { $0.reply.status == CHANSERV_READY && $0.taken == 0 } ?? false
            state.units[unit].idleAnswers = isIdle ? state.units[unit].idleAnswers + 1 : 0
            if state.units[unit].idleAnswers > 2_000 { return true }
            state.units[unit].phase = .queued
            state.ready.append(unit)
            return false
        }
        guard isLivelock else { return }
        plugin.findings.record(
            .livelock,
            "a poll returned CHANSERV_READY 2,000 times in a row and gave nothing"
                + (outcome?.refusedSize == true ? " but elements that the sink refuses as too large" : ""))
        finish(unit)
    }

    private func awaitCancelWake(of unit: Int, _ object: ExchangeOptions.Object) {
        // If the exchange is being stopped, there is nothing to judge, and `stop` waits for this thread.
        let isWokenOrOver: Bool? = state.wait(until: monotonicTime(in: options.cancelPatience)) { state in
            state.isStopping || state.units[unit].wakes > state.units[unit].wakesBeforePoll ? true : nil
        }
        guard isWokenOrOver == nil else { return }
        plugin.findings.record(
            .cancelWake,
            """
            \(object.isCall ? "a call" : "a source") that had returned CHANSERV_PENDING was cancelled, and \
            host->wake was not called within \(options.cancelPatience)
            """)
    }

    /// Marks the unit as finished: it is not polled again. Closes it now, or at the end with `closesLate`.
    private func finish(_ unit: Int) {
        state.with { $0.units[unit].phase = .finished }
        if !options.closesLate { close(unit) }
    }
}
