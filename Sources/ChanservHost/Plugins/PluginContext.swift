internal import CChanservPlugin
internal import Glibc
internal import Logging
internal import NIOConcurrencyHelpers

/// What every call into one instance needs: the functions, where they run, and how their time is watched.
final class PluginContext: Sendable {
    /// As the configuration names the plugin.
    let name: String
    let descriptor: PluginDescriptor
    let executor: any PluginExecutor
    let logger: Logger
    let counters = PluginCounters()
    /// What the instance has lent to the host. destroy is called only after its `end()` and `allReturned`.
    let lent: LentFrames
    /// How long an object is served before others have their turn, in nanoseconds: 200 µs.
    static let turn: UInt64 = 200_000
    /// Whether calls may run on the network's threads: `nil` if the plugin or the operator does not allow it.
    private let inlineCalls: NIOLockedValueBox<InlineCalls>?
    /// In nanoseconds, as the other.
    private let callBudget: UInt64
    private let lifeBudget: UInt64
    /// How long a call may take before ``isHopeless(_:after:)``, in nanoseconds; `nil` is for ever.
    let killAfter: UInt64?
    private let onStuck: (@Sendable (String) -> Void)?
    fileprivate let onHopeless: (@Sendable (String) -> Void)?

    init(
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
        lifeBudget = Self.nanoseconds(configuration.lifeBudget)
        killAfter = configuration.killAfter.map { Self.nanoseconds($0) }
        onStuck = configuration.onStuck
        onHopeless = configuration.onHopeless
    }

    /// Whether the plugin and the operator allow calls on the network's threads.
    var allowsInline: Bool { inlineCalls != nil }

    /// Whether a call may run on a network thread now.
    var mayRunInline: Bool {
        guard let inlineCalls else { return false }
        return inlineCalls.withLockedValue { $0.isAllowed(now: monotonicNanoseconds()) }
    }

    private var isWatched: Bool {
        inlineCalls?.withLockedValue { $0.isWatched(now: monotonicNanoseconds()) } ?? false
    }

    /// A call on a network thread has taken longer than it may.
    ///
    /// - Parameter before: what the thread had used when the call began; `nil` if that was not measured.
    private func tookInline(_ function: StaticString, _ duration: UInt64, since before: ThreadUsage?) {
        guard let inlineCalls else { return }
        let now = monotonicNanoseconds()
        guard let before else { return inlineCalls.withLockedValue { $0.watch(now: now) } }
        let used = ThreadUsage.now
        let own = used.waits > before.waits ? duration : used.processorTime &- before.processorTime
        guard let pause = inlineCalls.withLockedValue({ $0.took(own, now: now) }) else { return }
        logger.warning(
            """
            plugin \(name): \(function) took \(duration / 1_000) us on a network thread; the plugin runs on threads of its \
            own for \(pause / 1_000_000) ms. A plugin with CHANSERV_PLUGIN_INLINE returns within microseconds
            """)
    }

    private static func nanoseconds(_ duration: Duration) -> UInt64 {
        let (seconds, attoseconds) = duration.components
        return UInt64(clamping: seconds) &* 1_000_000_000 &+ UInt64(clamping: attoseconds / 1_000_000_000)
    }

    /// How long a call may take before it is logged and counted, in nanoseconds.
    func budget(of kind: CallKind) -> UInt64 {
        switch kind {
        // Watched only because it is killed some day.
        case .prompt where descriptor.isBlocking: .max
        case .prompt, .urgent: callBudget
        case .unhurried: lifeBudget
        }
    }

    /// Calls one of the plugin's functions. Must run on ``executor``.
    ///
    /// - Parameter kind: what the header allows the function in any plugin. In a blocking plugin each but create,
    ///   destroy and cancel may take as long as it likes: only its own threads wait for it.
    func call<Result>(
        _ function: StaticString, _ kind: CallKind = .prompt, _ body: (PluginDescriptor) -> Result
    ) -> Result {
        precondition(executor.isCurrent, "a plugin function was about to run on a thread that is not the plugins'")
        return kind == .prompt && descriptor.isBlocking && killAfter == nil
            ? body(descriptor) : timed(function, kind, body)
    }

    /// Calls one of the two cancel functions, which may not block in any plugin and run where urgent work does.
    func callUrgently(_ function: StaticString, _ body: (PluginDescriptor) -> Void) {
        timed(function, .urgent, body)
    }

    /// Calls the release function of a lent frame, which any thread may call.
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
        if duration > budget(of: kind) { overstayed(function, kind, duration, isCounted: wasReported) }
        return result
    }

    /// As ``call(_:_:_:)`` for a function that can fail; also hands over what it wrote into the error buffer.
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

    /// The text up to its zero, or the end of the buffer where a plugin wrote none; broken UTF-8 is repaired.
    private static func message(in buffer: UnsafeMutableBufferPointer<CChar>) -> String {
        let end = buffer.firstIndex(of: 0) ?? buffer.count
        return String(decoding: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<end]), as: UTF8.self)
    }

    @inline(never)
    private func overstayed(_ function: StaticString, _ kind: CallKind, _ duration: UInt64, isCounted: Bool) {
        if !isCounted { counters.overstayed() }
        let took = "plugin \(name): \(function) took \(duration / 1_000_000) ms"
        switch kind {
        case .prompt, .urgent:
            logger.warning(
                """
                \(took), its budget is \(budget(of: kind) / 1_000_000) ms; answer CHANSERV_PENDING and work on another \
                thread, or set CHANSERV_PLUGIN_BLOCKING
                """)
        case .unhurried:
            logger.warning("\(took)")
        }
    }

    /// A function is still running long after it should have returned.
    func doesNotReturn(_ function: StaticString, _ kind: CallKind, after duration: UInt64) {
        counters.overstayed()
        executor.callIsStuck(isUrgent: kind == .urgent)
        let since = "plugin \(name): \(function) has not returned for \(duration / 1_000_000) ms"
        switch kind {
        case .prompt, .urgent:
            logger.error("\(since); it holds a thread")
            onStuck?(since)
        case .unhurried: logger.warning("\(since); what is being started, reloaded or stopped waits for it")
        }
    }
}

extension PluginContext {
    /// How many frames the instance has lent and not got back.
    var lentFrames: Int { lent.frames }
    /// How many bytes they have.
    var lentBytes: Int { lent.bytes }

    /// A function has been running for so long that nobody believes in its return any more.
    func isHopeless(_ function: StaticString, after duration: UInt64) {
        onHopeless?("\(function) has not returned for \(duration / 1_000_000) ms")
    }
}

/// What a thread has used so far.
private struct ThreadUsage {
    /// Processor time in nanoseconds.
    var processorTime: UInt64
    /// How often it gave the processor up to wait for something.
    var waits: Int

    /// Of the thread that asks.
    static var now: ThreadUsage {
        var usage = rusage()
        // RUSAGE_THREAD, which the C library shows to GNU sources only. It cannot fail for the calling thread.
        _ = getrusage(__rusage_who_t(1), &usage)
        let microseconds =
            (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1_000_000 + usage.ru_utime.tv_usec
            + usage.ru_stime.tv_usec
        return ThreadUsage(processorTime: UInt64(clamping: microseconds) * 1_000, waits: usage.ru_nvcsw)
    }
}

/// The monotonic clock.
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}

/// A pointer of the plugin's, which the host only passes back.
///
/// `@unchecked Sendable`: nothing on this side follows it; when and where it is passed is PolledState's business.
struct PluginPointer: @unchecked Sendable {
    let raw: OpaquePointer
}
