internal import CChanservPlugin
internal import DequeModule
internal import PluginRuntime

/// Sends requests to an instance like a host: opens calls, polls, waits for wakes, cancels and closes. The order of the
/// functions is always one that the header allows.
final class Exchange: Sendable {
    enum Kind: Sendable {
        /// A body that is not opened yet.
        case request([UInt8])
        case call(StrictSourceSink)
        /// A source with its number within its request.
        case source(StrictFrameSink, number: Int)
    }

    enum Phase: Sendable {
        case queued, running, waiting
        /// No poll follows; the unit must be closed.
        case finished
        case closed
    }

    /// A request, which becomes a call, or a source.
    struct Unit: Sendable {
        var kind: Kind
        /// The index of the request's answer.
        let answer: Int
        /// The unit of the call, if this is a source.
        var call: Int?
        var pointer: PluginPointer?
        var phase = Phase.queued
        var handle: UInt64 = 0
        var polls = 0
        /// All wakes, and their number before the last poll.
        var wakes = 0
        var wakesBeforePoll = 0
        var waitsSince: UInt64 = 0
        /// Whether the next poll comes without a wake, because the wait for one took too long.
        var wakeTimedOut = false
        var unaskedLeft = 3
        /// Polls in a row that returned READY and gave nothing.
        var idleAnswers = 0
        /// Polls that remain after the unit was cancelled; `nil` before.
        var pollsLeft: Int?
        /// Running calls of cancel. The unit must not be closed during one.
        var cancels = 0
        var openSources = 0
        /// Whether this call or one of its sources is being polled.
        var isFamilyBusy = false

        var object: ExchangeOptions.Object {
            if case .source(_, let number) = kind {
                return ExchangeOptions.Object(isCall: false, number: number, polls: polls)
            }
            return ExchangeOptions.Object(isCall: true, number: 0, polls: polls)
        }
    }

    struct State: Sendable {
        var units: [Unit] = []
        var ready: Deque<Int> = []
        var answers: [Answer]
        var isStopping = false
        var frames = 0
        var bytes = 0
        var sources = 0
        /// Units that are being opened, polled or closed.
        var busy = 0
        /// Number of polls that returned PENDING.
        var pendings = 0
        /// Monotonic time of the last event, in nanoseconds.
        var lastEvent = monotonicNanoseconds()

        /// Whether frames have arrived and all threads have been idle for `quiet` nanoseconds.
        func isQuiet(for quiet: UInt64) -> Bool {
            frames > 0 && busy == 0 && ready.isEmpty && monotonicNanoseconds() - lastEvent > quiet
        }

        var isSettled: Bool {
            busy == 0 && (isStopping || units.allSatisfy { $0.phase == .finished || $0.phase == .closed })
        }
    }

    let instance: TestedInstance
    let options: ExchangeOptions
    let state: Monitor<State>

    var plugin: TestedPlugin { instance.plugin }

    /// Sends `bodies` at the same time and waits until each is answered or cut off by a limit.
    ///
    /// Everything is closed when it returns.
    ///
    /// - Throws: ``CaseEnd`` if a poll does not return. Then nothing can be closed.
    static func run(
        _ bodies: [[UInt8]], on instance: TestedInstance, _ options: ExchangeOptions = ExchangeOptions()
    ) throws(CaseEnd) -> (answers: [Answer], pendings: Int) {
        let exchange = Exchange(bodies, instance, options)
        try exchange.run()
        return exchange.state.with { ($0.answers, $0.pendings) }
    }

    private init(_ bodies: [[UInt8]], _ instance: TestedInstance, _ options: ExchangeOptions) {
        self.instance = instance
        self.options = options
        var state = State(answers: bodies.map { _ in Answer() })
        state.units = bodies.enumerated().map { Unit(kind: .request($1), answer: $0) }
        state.ready = Deque(bodies.indices)
        self.state = Monitor(state)
    }

    private func run() throws(CaseEnd) {
        // A poll of a blocking plugin may occupy a thread for as long as its object exists.
        let threads = plugin.descriptor.isBlocking ? max(options.threads, 8) : options.threads
        let workers = (0..<threads).map { number in
            CaseThread { [self] in
                while let unit = next(for: number, of: threads) { work(on: unit) }
            }
        }
        let deadline = monotonicTime(in: options.time)
        var isOver = false
        while !isOver, monotonicNanoseconds() < deadline {
            let step = min(deadline, monotonicTime(in: .milliseconds(20)))
            isOver = state.wait(until: step) { $0.isSettled ? true : nil } ?? false
            if !isOver { pollOverdueUnits() }
            if !isOver, let quiet = options.quiet, state.with({ $0.isQuiet(for: nanoseconds(of: quiet)) }) { break }
        }
        if !isOver { try stop() }
        for worker in workers { worker.join() }
        closeRest()
        // The header allows a release on any thread, long after the close.
        CaseThread { [instance, plugin] in instance.leases.end(plugin) }.join()
    }

    /// Cancels all open units and waits for their polls to return.
    private func stop() throws(CaseEnd) {
        let units: [Int] = state.with { state in
            state.isStopping = true
            let open = state.units.indices.filter {
                state.units[$0].pointer != nil && state.units[$0].phase != .finished && state.units[$0].phase != .closed
            }
            for unit in open { state.units[unit].cancels += 1 }
            return open
        }
        for unit in units { cancel(unit, isCounted: true) }
        while state.wait(until: monotonicTime(in: options.grace), { $0.isSettled ? true : nil }) == nil {
            let running = plugin.record.running.map(\.name).joined(separator: ", ")
            // No function of the plugin is running. The threads only need processor time on a busy machine.
            if running.isEmpty { continue }
            throw CaseEnd(.fail, "\(running) did not return within \(options.grace) after its object was cancelled")
        }
    }

    /// Polls units that have waited too long for a wake.
    private func pollOverdueUnits() {
        guard let maximumWait = options.wakeTimeout else { return }
        let limit = nanoseconds(of: maximumWait)
        state.with { state in
            let now = monotonicNanoseconds()
            for unit in state.units.indices where state.units[unit].phase == .waiting {
                guard now - state.units[unit].waitsSince > limit else { continue }
                state.units[unit].wakeTimedOut = true
                state.units[unit].phase = .queued
                state.ready.append(unit)
            }
        }
    }

    /// Closes the units that are still open: first the sources, the last one first, then the calls.
    private func closeRest() {
        let units = state.with { state in
            let open = state.units.indices.filter { state.units[$0].pointer != nil && state.units[$0].phase != .closed }
            for unit in open { state.units[unit].phase = .closed }
            let sources = open.filter { state.units[$0].call != nil }
            return sources.reversed() + open.filter { state.units[$0].call == nil }
        }
        for unit in units { callClose(unit) }
    }

    // MARK: - Objects

    /// Adds a source of the call `call` at once. Another thread may poll it before the poll that added it returns.
    func took(_ pointer: PluginPointer, _ header: Fingerprint, of call: Int) {
        state.with { state in
            let answer = state.units[call].answer
            let unit = state.units.count
            let number = state.answers[answer].sources.count
            state.answers[answer].sources.append(Answer.Source(header: header))
            let handle = WakeHandles.insert { [weak self] in self?.woke(unit) }
            let sink = StrictFrameSink(options.frames, wakeHandle: handle, findings: plugin.findings)
            var source = Unit(kind: .source(sink, number: number), answer: answer, call: call, pointer: pointer)
            source.handle = handle
            state.units.append(source)
            state.units[call].openSources += 1
            state.sources += 1
            if state.sources >= options.sourceLimit { state.isStopping = true }
            state.ready.append(unit)
        }
    }

    func woke(_ unit: Int) {
        state.with { state in
            state.units[unit].wakes += 1
            state.lastEvent = monotonicNanoseconds()
            guard state.units[unit].phase == .waiting else { return }
            state.units[unit].phase = .queued
            state.ready.append(unit)
        }
    }

    /// - Parameter isCounted: whether the cancel is already counted. The count keeps the unit from being closed.
    func cancel(_ unit: Int, isCounted: Bool = false) {
        let (kind, pointer) = state.with { state in
            if !isCounted { state.units[unit].cancels += 1 }
            return (state.units[unit].kind, state.units[unit].pointer)
        }
        if let pointer {
            switch kind {
            case .request: break
            case .call: instance.cancelCall(pointer)
            case .source: instance.cancelSource(pointer)
            }
        }
        state.with { $0.units[unit].cancels -= 1 }
    }

    /// Closes a finished unit after its running cancels have ended. Closes its call after the last of its sources.
    func close(_ unit: Int) {
        let isCall = state.with { $0.units[unit].call == nil }
        let closes: Bool? = state.wait { state in
            guard state.units[unit].cancels == 0 else { return nil }
            guard state.units[unit].phase == .finished, state.units[unit].openSources == 0 else { return false }
            state.units[unit].phase = .closed
            return true
        }
        guard closes == true else { return }
        callClose(unit)
        guard !isCall else { return }
        let call: Int? = state.with { state in
            guard let call = state.units[unit].call else { return nil }
            state.units[call].openSources -= 1
            return state.units[call].openSources == 0 && state.units[call].phase == .finished ? call : nil
        }
        if let call { close(call) }
    }

    private func callClose(_ unit: Int) {
        let (kind, pointer, handle) = state.with {
            ($0.units[unit].kind, $0.units[unit].pointer, $0.units[unit].handle)
        }
        WakeHandles.remove(handle)
        guard let pointer else { return }
        switch kind {
        case .request: break
        case .call: instance.closeCall(pointer)
        case .source: instance.closeSource(pointer)
        }
    }
}
