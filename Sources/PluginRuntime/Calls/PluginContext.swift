internal import CChanservPlugin
internal import Glibc
package import Logging
internal import NIOConcurrencyHelpers

/// State that every call into one instance needs: the functions, the executor, and the time limits.
package final class PluginContext: Sendable {
    /// Name of the plugin in the configuration.
    let name: String
    let descriptor: PluginDescriptor
    package let executor: any PluginExecutor
    let logger: Logger
    let counters = PluginCounters()
    /// Frames that the instance has lent to the host. The host calls destroy only after `end()` and `allReturned`.
    package let lent: LentFrames
    /// Maximum duration of a turn in nanoseconds (200 µs). Then other objects get a turn.
    static let turn: UInt64 = 200_000
    /// Decides whether calls may run on event loops. `nil` if the plugin or the operator does not allow it.
    private let inlineCalls: NIOLockedValueBox<InlineCalls>?
    /// In nanoseconds, like `lifecycleBudget`.
    private let callBudget: UInt64
    private let lifecycleBudget: UInt64
    /// Maximum duration of a call before ``exceededKillTimeout(_:after:)``, in nanoseconds. `nil` is unlimited.
    let killAfter: UInt64?
    private let onStuck: (@Sendable (String) -> Void)?
    fileprivate let onKillTimeout: (@Sendable (String) -> Void)?

    package init(
        name: String, descriptor: PluginDescriptor, executor: any PluginExecutor, logger: Logger,
        configuration: PluginInstance.Configuration
    ) {
        self.name = name
        self.descriptor = descriptor
        self.executor = executor
        self.logger = logger
        lent = LentFrames(bytesLimit: configuration.lentBytesLimit)
        inlineCalls =
            descriptor.isInline && configuration.allowsInline ? NIOLockedValueBox(InlineCalls()) : nil
        callBudget = Self.nanoseconds(configuration.callBudget)
        lifecycleBudget = Self.nanoseconds(configuration.lifecycleBudget)
        killAfter = configuration.killAfter.map { Self.nanoseconds($0) }
        onStuck = configuration.onStuck
        onKillTimeout = configuration.onKillTimeout
    }

    /// Whether the plugin and the operator allow calls on event loops.
    var allowsInline: Bool { inlineCalls != nil }

    /// Whether a call may run on an event loop now.
    var mayRunInline: Bool {
        guard let inlineCalls else { return false }
        return inlineCalls.withLockedValue { $0.isAllowed(now: monotonicNanoseconds()) }
    }

    private var isWatched: Bool {
        inlineCalls?.withLockedValue { $0.isWatched(now: monotonicNanoseconds()) } ?? false
    }

    /// Records a call on an event loop that took longer than ``InlineCalls/longest``.
    ///
    /// - Parameter before: usage of the thread when the call began; `nil` if it was not measured.
    private func tookInline(_ function: StaticString, _ duration: UInt64, since before: ThreadUsage?) {
        guard let inlineCalls else { return }
        let now = monotonicNanoseconds()
        guard let before else { return inlineCalls.withLockedValue { $0.watch(now: now) } }
        let used = ThreadUsage.now
        let own = used.waits > before.waits ? duration : used.processorTime &- before.processorTime
        guard let pause = inlineCalls.withLockedValue({ $0.took(own, now: now) }) else { return }
        logger.warning(
            """
            plugin \(name): \(function) took \(duration / 1_000) us on a network thread; the plugin runs on plugin \
            threads for \(pause / 1_000_000) ms; functions of a CHANSERV_PLUGIN_INLINE plugin must return within \
            microseconds
            """)
    }

    private static func nanoseconds(_ duration: Duration) -> UInt64 {
        let (seconds, attoseconds) = duration.components
        return UInt64(clamping: seconds) &* 1_000_000_000 &+ UInt64(clamping: attoseconds / 1_000_000_000)
    }

    /// Returns the maximum duration of a call in nanoseconds. The host logs and counts a call that takes longer.
    func budget(of kind: CallKind) -> UInt64 {
        switch kind {
        // Such a call is tracked only because of `killAfter`.
        case .prompt where descriptor.isBlocking: .max
        case .prompt, .urgent: callBudget
        case .lifecycle: lifecycleBudget
        }
    }

    /// Calls one of the plugin's functions. Must run on ``executor``.
    ///
    /// - Parameter kind: how fast the function must return according to the header. In a blocking plugin every function
    ///   except create, destroy and cancel may take any time, because only the plugin's own threads wait for it.
    func call<Result>(
        _ function: StaticString, _ kind: CallKind = .prompt, _ body: (PluginDescriptor) -> Result
    ) -> Result {
        precondition(executor.isCurrent, "a plugin function was about to run on a thread that is not the plugins'")
        return kind == .prompt && descriptor.isBlocking && killAfter == nil
            ? body(descriptor) : timed(function, kind, body)
    }

    /// Calls one of the two cancel functions. They may not block in any plugin, and they run as urgent work.
    func callUrgently(_ function: StaticString, _ body: (PluginDescriptor) -> Void) {
        timed(function, .urgent, body)
    }

    /// Calls the release function of a lent frame. Any thread may call it.
    func callRelease(_ release: () -> Void) {
        timed("release", .prompt) { _ in release() }
    }

    private func timed<Result>(
        _ function: StaticString, _ kind: CallKind, _ body: (PluginDescriptor) -> Result
    ) -> Result {
        let isInline = inlineCalls != nil && CurrentPluginExecutor.isOnNetworkThread
        let before = isInline && isWatched ? ThreadUsage.now : nil
        let (result, duration, wasReported) = CallWatch.watching(self, function, kind) { body(descriptor) }
        if isInline, duration > InlineCalls.longest { tookInline(function, duration, since: before) }
        if wasReported { executor.stuckCallReturned(isUrgent: kind == .urgent) }
        if duration > budget(of: kind) { exceededBudget(function, kind, duration, isCounted: wasReported) }
        return result
    }

    /// Calls a function that can fail, like ``call(_:_:_:)``. Also returns the text that it wrote into the error
    /// buffer.
    func callFailing(
        _ function: StaticString, _ kind: CallKind = .prompt,
        _ body: (PluginDescriptor, UnsafeMutablePointer<chanserv_error>) -> chanserv_status
    ) -> (status: chanserv_status, message: String) {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Self.messageCapacity) { buffer in
            buffer[0] = 0
            var error = chanserv_error(message: buffer.baseAddress, capacity: buffer.count)
            let status = call(function, kind) { body($0, &error) }
            return (status, status < 0 ? Self.message(in: buffer) : "")
        }
    }

    private static let messageCapacity = 1024

    /// Returns the text up to its zero byte, or the whole buffer if there is none. Invalid UTF-8 is replaced.
    private static func message(in buffer: UnsafeMutableBufferPointer<CChar>) -> String {
        let end = buffer.firstIndex(of: 0) ?? buffer.count
        return String(decoding: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<end]), as: UTF8.self)
    }

    @inline(never)
    private func exceededBudget(_ function: StaticString, _ kind: CallKind, _ duration: UInt64, isCounted: Bool) {
        if !isCounted { counters.exceededBudget() }
        let took = "plugin \(name): \(function) took \(duration / 1_000_000) ms"
        switch kind {
        case .prompt, .urgent:
            logger.warning(
                """
                \(took), its budget is \(budget(of: kind) / 1_000_000) ms; answer CHANSERV_PENDING and work on another \
                thread, or set CHANSERV_PLUGIN_BLOCKING
                """)
        case .lifecycle:
            logger.warning("\(took)")
        }
    }

    /// Reports a function that is still running after its budget.
    func reportStuck(_ function: StaticString, _ kind: CallKind, after duration: UInt64) {
        counters.exceededBudget()
        executor.callIsStuck(isUrgent: kind == .urgent)
        let since = "plugin \(name): \(function) has not returned for \(duration / 1_000_000) ms"
        switch kind {
        case .prompt, .urgent:
            logger.error("\(since); it holds a thread")
            onStuck?(since)
        case .lifecycle: logger.warning("\(since); the start, reload or stop of the plugin waits for it")
        }
    }
}

extension PluginContext {
    /// Number of frames that the instance has lent and that are not released.
    package var lentFrames: Int { lent.frames }
    /// Size of those frames in bytes.
    package var lentBytes: Int { lent.bytes }

    /// Reports a function that has exceeded `killAfter`.
    func exceededKillTimeout(_ function: StaticString, after duration: UInt64) {
        onKillTimeout?("\(function) has not returned for \(duration / 1_000_000) ms")
    }
}

/// Resources that a thread has used so far.
private struct ThreadUsage {
    /// Processor time in nanoseconds.
    var processorTime: UInt64
    /// Number of times that the thread gave up the processor to wait.
    var waits: Int

    /// Usage of the calling thread.
    static var now: ThreadUsage {
        var usage = rusage()
        // RUSAGE_THREAD, which glibc declares only with `_GNU_SOURCE`. The call cannot fail for the calling thread.
        _ = getrusage(__rusage_who_t(1), &usage)
        let microseconds =
            (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1_000_000 + usage.ru_utime.tv_usec
            + usage.ru_stime.tv_usec
        return ThreadUsage(processorTime: UInt64(clamping: microseconds) * 1_000, waits: usage.ru_nvcsw)
    }
}

/// Returns the time of the monotonic clock.
package func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}

/// Pointer that belongs to the plugin. The host only passes it back.
///
/// `@unchecked Sendable`: the host never dereferences it. `PolledState` decides when it may be passed.
package struct PluginPointer: @unchecked Sendable {
    package let raw: OpaquePointer

    package init(raw: OpaquePointer) {
        self.raw = raw
    }
}
