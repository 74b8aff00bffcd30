internal import CChanservPlugin
internal import Logging
internal import NIOConcurrencyHelpers

/// The `struct chanserv_host` of one instance, with what its functions need behind it.
///
/// Its memory is never freed: the header lets plugins call `wake` and `log` until the process ends. It is some hundred
/// bytes for each instance ever made, nothing beside the library that stays loaded for the same reason.
struct HostTable {
    /// `CHANSERV_HOST_MAGIC`, a macro Swift does not import.
    static let magic: UInt32 = 0x4853_4843

    /// For the plugin.
    ///
    /// `nonisolated(unsafe)`: written before anybody knows the address, only read afterwards.
    nonisolated(unsafe) let pointer: UnsafePointer<chanserv_host>
    let context: HostContext

    /// - Parameter logger: where `host->log` goes.
    init(logger: Logger) {
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
        // Retained for as long as the memory, which is never freed.
        table.context = Unmanaged.passRetained(context).toOpaque()
        let memory = UnsafeMutablePointer<chanserv_host>.allocate(capacity: 1)
        memory.initialize(to: table)
        pointer = UnsafePointer(memory)
    }

    /// The context of the table that a plugin passed; `nil` if it passed NULL.
    static func context(of host: UnsafePointer<chanserv_host>?) -> HostContext? {
        guard let context = host?.pointee.context else { return nil }
        return Unmanaged<HostContext>.fromOpaque(context).takeUnretainedValue()
    }
}

/// What the functions of a host table work on.
final class HostContext: Sendable {
    /// A configuration while it is lent to create, with the copies of strings that were handed out.
    ///
    /// `@unchecked Sendable`: the copies are written under the lock of ``configuration`` only.
    final class Lease: @unchecked Sendable {
        let values: PluginConfiguration
        private var copies: [UnsafeMutablePointer<CChar>] = []
        private var lists: [UnsafeMutablePointer<UnsafePointer<CChar>?>] = []

        init(_ values: PluginConfiguration) { self.values = values }

        deinit {
            for copy in copies { copy.deallocate() }
            for list in lists { list.deallocate() }
        }

        /// A copy that ends in a zero byte and lives as long as the lease.
        func copy(_ text: String) -> (start: UnsafePointer<CChar>, size: Int) {
            let size = text.utf8.count
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: size + 1)
            for (index, byte) in text.utf8.enumerated() { copy[index] = CChar(bitPattern: byte) }
            copy[size] = 0
            copies.append(copy)
            return (UnsafePointer(copy), size)
        }

        /// Copies of `texts`, each with a zero byte at its end, as an array that lives as long as the lease.
        func copy(_ texts: [String]) -> UnsafePointer<UnsafePointer<CChar>?> {
            let list = UnsafeMutablePointer<UnsafePointer<CChar>?>.allocate(capacity: max(1, texts.count))
            // One place even for an empty list, so that the array's address is never NULL.
            list.initialize(repeating: nil, count: max(1, texts.count))
            for (index, text) in texts.enumerated() { list[index] = copy(text).start }
            lists.append(list)
            return UnsafePointer(list)
        }
    }

    private let logger: Logger
    private let configuration = NIOLockedValueBox<Lease?>(nil)
    /// The longest message that is logged, in bytes; the rest is cut.
    private static let messageLimit = 16_384

    init(logger: Logger) {
        self.logger = logger
    }

    /// Lends `values` to the plugin for the time of `body`.
    func lending<Result>(_ values: PluginConfiguration, _ body: (OpaquePointer) -> Result) -> Result {
        let lease = Lease(values)
        configuration.withLockedValue { $0 = lease }
        defer { configuration.withLockedValue { $0 = nil } }
        return body(OpaquePointer(Unmanaged.passUnretained(lease).toOpaque()))
    }

    /// Gives `body` the configuration if `config` is the one that is lent now.
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
