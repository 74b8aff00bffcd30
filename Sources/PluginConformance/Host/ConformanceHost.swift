internal import CChanservPlugin
internal import Glibc
internal import Logging
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// The `struct chanserv_host` of an instance under test. It works like the host's and checks how the plugin uses it.
///
/// Its memory is never freed, as the header promises for `wake` and `log`.
final class ConformanceHost: Sendable {
    /// The table for the plugin.
    ///
    /// `nonisolated(unsafe)`: written before its address is shared, then only read.
    nonisolated(unsafe) let pointer: UnsafePointer<chanserv_host>
    let findings: Findings
    let lender: Lender
    /// The host's table, which answers the getters.
    let inner: HostTable
    let configuration = NIOLockedValueBox(ConfigurationUse())

    /// `sizeof(struct chanserv_host)` in version 1.0, which never changes.
    private static let sizeOfVersion10 = 112

    /// All tables of the process, to detect a plugin that passes a wrong one.
    private static let tables = NIOLockedValueBox<[UInt: ConformanceHost]>([:])

    /// - Parameter isVersion10: whether the table ends where that of version 1.0 of the ABI ends.
    init(findings: Findings, lender: Lender, isVersion10: Bool) {
        self.findings = findings
        self.lender = lender
        inner = HostTable(logger: Logger(label: "plugin", factory: { _ in SwiftLogNoOpLogHandler() }))
        var table = inner.pointer.pointee
        table.wake = { host, handle in
            ConformanceHost.of(host, "wake")?.wake(handle)
        }
        table.log = { host, _, message, size in
            ConformanceHost.of(host, "log")?.log(message, size)
        }
        table.fillWatchedGetters()
        let size = isVersion10 ? Self.sizeOfVersion10 : MemoryLayout<chanserv_host>.size
        table.struct_size = UInt32(size)
        if isVersion10 { table.abi_minor = 0 }
        let memory = isVersion10 ? lender.lend(size, isExact: true).start : malloc(size)!
        memory.copyMemory(from: &table, byteCount: size)
        // The type is larger than a table of version 1.0, but only the fields of 1.0 are read there.
        pointer = UnsafeRawPointer(memory).assumingMemoryBound(to: chanserv_host.self)
        let address = UInt(bitPattern: memory)
        Self.tables.withLockedValue { $0[address] = self }
    }

    /// Returns the object of a table. If there is none, records a finding and returns `nil`.
    static func of(_ host: UnsafePointer<chanserv_host>?, _ function: String) -> ConformanceHost? {
        tables.withLockedValue { tables in
            if let known = tables[UInt(bitPattern: host)] { return known }
            tables.values.first?.findings.record(
                .hostTable, "host->\(function) was called with \(host == nil ? "NULL" : "another pointer") as the host")
            return nil
        }
    }

    private func wake(_ handle: UInt64) {
        switch WakeHandles.wake(handle) {
        case .woken, .late: break
        case .unknown:
            findings.record(.hostTable, "host->wake was called with \(handle), which no sink had as its handle")
        }
    }

    private func log(_ message: UnsafePointer<CChar>?, _ size: Int) {
        guard let message else {
            if size > 0 { findings.record(.hostTable, "host->log was called with NULL as a message of \(size) bytes") }
            return
        }
        guard size >= 0, size <= 1 << 30 else {
            findings.record(.hostTable, "host->log was called with a message of \(UInt(bitPattern: size)) bytes")
            return
        }
        let bytes = UnsafeRawBufferPointer(start: message, count: size)
        if String(validating: bytes, as: UTF8.self) == nil {
            findings.record(.hostTable, "host->log was called with a message that is not UTF-8")
        }
    }
}

/// The wake handles of all polled objects. A handle is never reused.
enum WakeHandles {
    enum Result {
        case woken
        /// The object is closed. A late wake is allowed.
        case late
        /// The handle was never given to a sink.
        case unknown
    }

    private struct State {
        var wakes: [UInt64: @Sendable () -> Void] = [:]
        var last: UInt64 = 0
    }

    /// Unlike the small numbers that a plugin may pass by mistake, and not consecutive.
    private static let first: UInt64 = 0x6368_616E_0000_0001
    private static let step: UInt64 = 0x1_0001
    private static let state = NIOLockedValueBox(State())

    static func insert(_ wake: @escaping @Sendable () -> Void) -> UInt64 {
        state.withLockedValue { state in
            state.last += 1
            let handle = first + state.last * step
            state.wakes[handle] = wake
            return handle
        }
    }

    static func remove(_ handle: UInt64) {
        state.withLockedValue { $0.wakes[handle] = nil }
    }

    static func wake(_ handle: UInt64) -> Result {
        let (wake, wasGiven) = state.withLockedValue { state in
            let distance = handle &- first
            let number = distance / step
            return (state.wakes[handle], distance % step == 0 && number >= 1 && number <= state.last)
        }
        wake?()
        return wake != nil ? .woken : wasGiven ? .late : .unknown
    }
}
