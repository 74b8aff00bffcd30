internal import CChanservPlugin
internal import Glibc
internal import NIOConcurrencyHelpers

/// A plugin under test: every call of one of its functions goes through here, where it is recorded, timed and looked at.
final class TestedPlugin: Sendable {
    let descriptor: PluginDescriptor
    let record: CaseRecord
    let findings = Findings()
    /// How much room error messages have.
    let errorCapacity: Int
    /// What memory the host lends.
    let lender: Lender
    /// Whether each call is to leave the thread as it was: two system calls more.
    let watchesThreads: Bool
    /// Whether the host is one of version 1.0 of the ABI: its structs end where those of 1.0 do.
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

    /// The longest call of each function since this was asked last.
    func takeTimings() -> [PluginFunction: Timing] {
        timings.withLockedValue { timings in
            defer { timings = [:] }
            return timings
        }
    }

    /// Calls `function`.
    ///
    /// - Parameter lane: held meanwhile, for a plugin whose functions may not overlap.
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
            findings.saw(.threadState, "\(function.name) left \(change)")
        }
        timings.withLockedValue { timings in
            timings[function, default: Timing()].calls += 1
            timings[function]!.longest = max(timings[function]!.longest, took)
        }
        return result
    }

    /// What a function that can fail said.
    struct Reply: Sendable {
        var status: Int32
        var message: String
    }

    /// As ``call(_:lane:_:)``, with a place for an error message.
    func callFailing(
        _ function: PluginFunction, lane: NIOLock? = nil, allowed: [Int],
        _ body: (UnsafeMutablePointer<chanserv_error>) -> chanserv_status
    ) -> Reply {
        var buffer = ErrorBuffer(capacity: errorCapacity, lender: lender)
        let status = call(function, lane: lane) { buffer.withError(body) }
        let message = buffer.finish(lender, of: function, failed: status < 0, findings)
        if status >= 0, !allowed.contains(Int(status)) {
            findings.saw(.status, "\(function.name) returned \(status), which is no answer it can give")
        }
        if status < Int32(CHANSERV_ERROR_TOO_LARGE) {
            findings.saw(
                .unknownError,
                "\(function.name) returned \(status), an error code the host does not know (it counts as internal)")
        }
        return Reply(status: status, message: message)
    }
}

/// A `chanserv_error` with known bytes around what may be written.
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

    /// Looks at what was written, and takes the buffer back.
    mutating func finish(_ lender: Lender, of function: PluginFunction, failed: Bool, _ findings: Findings) -> String {
        defer { lender.end(loan) }
        let bytes = UnsafeRawBufferPointer(start: loan.start, count: capacity + Self.canarySize)
        if bytes[capacity...].contains(where: { $0 != Self.canary }) {
            findings.saw(
                .errorText, "\(function.name) wrote beyond the \(capacity) bytes that its error message may have")
        }
        guard failed else { return "" }
        guard let end = bytes[..<capacity].firstIndex(of: 0) else {
            findings.saw(
                .errorText, "\(function.name) left an error message without a zero in its \(capacity) bytes")
            return ""
        }
        let text = UnsafeRawBufferPointer(rebasing: bytes[..<end])
        // A character that was cut off at the end of a small buffer is nobody's mistake.
        if String(validating: text, as: UTF8.self) == nil, end < capacity - 1 {
            findings.saw(.errorText, "\(function.name) left an error message that is not UTF-8")
        }
        if end == 0, capacity > 1 { findings.saw(.noErrorText, "\(function.name) failed without a message") }
        return String(decoding: text, as: UTF8.self)
    }
}

/// What a thread has for itself and a plugin must leave as it was.
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
