internal import CChanservPlugin
internal import Glibc
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// A plugin under test. All calls of its functions go through this class, which records, times and checks them.
final class TestedPlugin: Sendable {
    let descriptor: PluginDescriptor
    let record: CaseRecord
    let findings = Findings()
    /// Capacity of error messages in bytes.
    let errorCapacity: Int
    /// The memory that the host lends to the plugin.
    let lender: Lender
    /// Whether to check that each call leaves the thread's state unchanged. This costs two system calls per call.
    let watchesThreads: Bool
    /// Whether the host has version 1.0 of the ABI: its structs end where those of 1.0 end.
    let isVersion10: Bool

    struct Timing: Sendable {
        var calls = 0
        var longest: UInt64 = 0
    }

    private let timings = NIOLockedValueBox<[PluginFunction: Timing]>([:])

    init(
        _ descriptor: PluginDescriptor, record: CaseRecord, errorCapacity: Int = 1024, rule: Lender.Rule = .plain,
        watchesThreads: Bool = false, isVersion10: Bool = false
    ) {
        self.descriptor = descriptor
        self.record = record
        self.errorCapacity = errorCapacity
        lender = Lender(rule)
        self.watchesThreads = watchesThreads
        self.isVersion10 = isVersion10
    }

    /// Returns the longest call of each function since the last call of this method.
    func takeTimings() -> [PluginFunction: Timing] {
        timings.withLockedValue { timings in
            defer { timings = [:] }
            return timings
        }
    }

    /// Calls `function`.
    ///
    /// - Parameter lane: a lock to hold during the call, for a plugin whose functions must not overlap.
    func call<Result>(_ function: PluginFunction, lane: NIOLock? = nil, _ body: () -> Result) -> Result {
        lane?.lock()
        defer { lane?.unlock() }
        let before = watchesThreads ? ThreadState() : nil
        record.entered(function)
        let began = monotonicNanoseconds()
        let result = body()
        let took = monotonicNanoseconds() - began
        record.left(function)
        if let before, let change = ThreadState().change(since: before) {
            findings.record(.threadState, "\(function.name) left \(change)")
        }
        timings.withLockedValue { timings in
            timings[function, default: Timing()].calls += 1
            timings[function]!.longest = max(timings[function]!.longest, took)
        }
        return result
    }

    /// The reply of a function that can fail.
    struct Reply: Sendable {
        var status: Int32
        var message: String
    }

    /// As ``call(_:lane:_:)``, with a buffer for an error message.
    func callFailing(
        _ function: PluginFunction, lane: NIOLock? = nil, allowed: [Int],
        _ body: (UnsafeMutablePointer<chanserv_error>) -> chanserv_status
    ) -> Reply {
        var buffer = ErrorBuffer(capacity: errorCapacity, lender: lender)
        let status = call(function, lane: lane) { buffer.withError(body) }
        let message = buffer.finish(lender, of: function, failed: status < 0, findings)
        if status >= 0, !allowed.contains(Int(status)) {
            findings.record(.status, "\(function.name) returned \(status), which is not a status of this function")
        }
        if status < Int32(CHANSERV_ERROR_TOO_LARGE) {
            findings.record(
                .unknownError,
                "\(function.name) returned \(status), an error code the host does not know (it counts as internal)")
        }
        return Reply(status: status, message: message)
    }
}

/// A `chanserv_error` with known bytes behind its buffer.
private struct ErrorBuffer {
    private let loan: Lender.Loan
    private let capacity: Int
    private static let canary: UInt8 = 0xC5
    private static let canarySize = 64

    init(capacity: Int, lender: Lender) {
        self.capacity = capacity
        loan = lender.lend(capacity + Self.canarySize)
        memset(loan.start, Int32(Self.canary), capacity + Self.canarySize)
        loan.start.storeBytes(of: 0, as: UInt8.self)
    }

    func withError(_ body: (UnsafeMutablePointer<chanserv_error>) -> chanserv_status) -> chanserv_status {
        var error = chanserv_error(
            message: loan.start.assumingMemoryBound(to: CChar.self), capacity: capacity)
        return body(&error)
    }

    /// Checks what was written, and frees the buffer.
    mutating func finish(_ lender: Lender, of function: PluginFunction, failed: Bool, _ findings: Findings) -> String {
        defer { lender.end(loan) }
        let bytes = UnsafeRawBufferPointer(start: loan.start, count: capacity + Self.canarySize)
        if bytes[capacity...].contains(where: { $0 != Self.canary }) {
            findings.record(
                .errorText, "\(function.name) wrote beyond the \(capacity) bytes of its error message")
        }
        guard failed else { return "" }
        guard let end = bytes[..<capacity].firstIndex(of: 0) else {
            findings.record(
                .errorText, "\(function.name) wrote an error message without a zero in its \(capacity) bytes")
            return ""
        }
        let text = UnsafeRawBufferPointer(rebasing: bytes[..<end])
        // A character that is cut at the end of a small buffer is allowed.
        if String(validating: text, as: UTF8.self) == nil, end < capacity - 1 {
            findings.record(.errorText, "\(function.name) wrote an error message that is not UTF-8")
        }
        if end == 0, capacity > 1 { findings.record(.noErrorText, "\(function.name) failed without a message") }
        return String(decoding: text, as: UTF8.self)
    }
}

/// State of a thread that a plugin must leave unchanged.
private struct ThreadState {
    private var blocked = sigset_t()
    private let rounding = fegetround()

    init() { pthread_sigmask(SIG_BLOCK, nil, &blocked) }

    func change(since before: ThreadState) -> String? {
        var (now, old) = (blocked, before.blocked)
        for signal in 1...64 where sigismember(&now, CInt(signal)) != sigismember(&old, CInt(signal)) {
            return "the thread's signal mask changed (signal \(signal))"
        }
        return rounding == before.rounding ? nil : "the thread's floating-point rounding changed"
    }
}
