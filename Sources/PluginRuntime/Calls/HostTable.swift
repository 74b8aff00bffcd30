package import CChanservPlugin
package import HostConfiguration
package import Logging
internal import NIOConcurrencyHelpers

/// `struct chanserv_host` of one instance, with the context that its functions need.
///
/// Its memory is never freed, because the header lets plugins call `wake` and `log` until the process ends. It takes a
/// few hundred bytes for each instance ever created.
package struct HostTable {
    /// `CHANSERV_HOST_MAGIC`, a macro that Swift does not import.
    static let magic: UInt32 = 0x4853_4843

    /// Pointer to the table, for the plugin.
    ///
    /// `nonisolated(unsafe)`: the table is written before its address is shared, and only read afterwards.
    package nonisolated(unsafe) let pointer: UnsafePointer<chanserv_host>
    package let context: HostContext

    /// - Parameter logger: receives the messages of `host->log`.
    package init(logger: Logger) {
        context = HostContext(logger: logger)
        var table = chanserv_host()
        table.magic = Self.magic
        table.abi_major = UInt16(CHANSERV_ABI_MAJOR)
        table.abi_minor = UInt16(CHANSERV_ABI_MINOR)
        table.struct_size = UInt32(MemoryLayout<chanserv_host>.size)
        table.wake = { _, handle in WakeTable.wake(handle) }
        table.log = { host, level, message, size in
            HostTable.context(of: host)?.log(level: level, message: message, size: size)
        }
        table.fillConfigurationGetters()
        // The retain is never balanced, because the memory is never freed.
        table.context = Unmanaged.passRetained(context).toOpaque()
        let memory = UnsafeMutablePointer<chanserv_host>.allocate(capacity: 1)
        memory.initialize(to: table)
        pointer = UnsafePointer(memory)
    }

    /// Returns the context of a table that a plugin passed, or `nil` for NULL.
    static func context(of host: UnsafePointer<chanserv_host>?) -> HostContext? {
        guard let context = host?.pointee.context else { return nil }
        return Unmanaged<HostContext>.fromOpaque(context).takeUnretainedValue()
    }
}

/// State behind the functions of a host table.
package final class HostContext: Sendable {
    /// Configuration while it is lent to create, with the copies of strings that the plugin received.
    ///
    /// `@unchecked Sendable`: `copies` and `lists` change only under the lock of ``configuration``.
    final class Lease: @unchecked Sendable {
        let values: PluginConfiguration
        private var copies: [UnsafeMutablePointer<CChar>] = []
        private var lists: [UnsafeMutablePointer<UnsafePointer<CChar>?>] = []

        init(_ values: PluginConfiguration) { self.values = values }

        deinit {
            for copy in copies { copy.deallocate() }
            for list in lists { list.deallocate() }
        }

        /// Returns a zero-terminated copy that lives as long as the lease.
        func copy(_ text: String) -> (start: UnsafePointer<CChar>, size: Int) { copy(text.utf8) }

        /// Returns a zero-terminated copy of `bytes` that lives as long as the lease.
        func copy(_ bytes: some Collection<UInt8>) -> (start: UnsafePointer<CChar>, size: Int) {
            let size = bytes.count
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: size + 1)
            for (index, byte) in bytes.enumerated() { copy[index] = CChar(bitPattern: byte) }
            copy[size] = 0
            copies.append(copy)
            return (UnsafePointer(copy), size)
        }

        /// Returns an array of zero-terminated copies of `texts` that lives as long as the lease.
        func copy(_ texts: [String]) -> UnsafePointer<UnsafePointer<CChar>?> {
            let list = UnsafeMutablePointer<UnsafePointer<CChar>?>.allocate(capacity: max(1, texts.count))
            // Even an empty list has one element, so that the address of the array is never NULL.
            list.initialize(repeating: nil, count: max(1, texts.count))
            for (index, text) in texts.enumerated() { list[index] = copy(text).start }
            lists.append(list)
            return UnsafePointer(list)
        }
    }

    private let logger: Logger
    private let configuration = NIOLockedValueBox<Lease?>(nil)
    /// Maximum length of a log message in bytes. The host truncates longer messages.
    private static let messageLimit = 16_384

    init(logger: Logger) {
        self.logger = logger
    }

    /// Lends `values` to the plugin while `body` runs.
    package func lending<Result>(_ values: PluginConfiguration, _ body: (OpaquePointer) -> Result) -> Result {
        let lease = Lease(values)
        configuration.withLockedValue { $0 = lease }
        defer { configuration.withLockedValue { $0 = nil } }
        return body(OpaquePointer(Unmanaged.passUnretained(lease).toOpaque()))
    }

    /// Passes the lent configuration to `body` if `config` refers to it, and `nil` otherwise.
    func withConfiguration<Result>(_ config: OpaquePointer?, _ body: (Lease?) -> Result) -> Result {
        configuration.withLockedValue { lease in
            guard let lease, let config, UnsafeMutableRawPointer(config) == Unmanaged.passUnretained(lease).toOpaque()
            else { return body(nil) }
            return body(lease)
        }
    }

    func log(level: Int32, message: UnsafePointer<CChar>?, size: Int) {
        guard let message, size > 0 else { return }
        let level: Logger.Level =
            switch Int(level) {
            case CHANSERV_LOG_DEBUG: .debug
            case CHANSERV_LOG_WARNING: .warning
            case CHANSERV_LOG_ERROR: .error
            default: .info
            }
        guard level >= logger.logLevel else { return }
        let bytes = UnsafeRawBufferPointer(start: message, count: min(size, Self.messageLimit))
        logger.log(level: level, "\(String(decoding: bytes, as: UTF8.self))")
    }
}
