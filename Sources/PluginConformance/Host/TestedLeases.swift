internal import Glibc
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// The frames that a plugin has lent.
final class TestedLeases: Sendable {
    /// A lent frame with its fingerprint at the time of the lend.
    ///
    /// `@unchecked Sendable`: the addresses belong to the plugin and are used only until the end of the lease.
    struct Lease: @unchecked Sendable {
        typealias Release = @convention(c) (UnsafeMutableRawPointer?) -> Void

        let bytes: UnsafeRawBufferPointer
        let fingerprint: Fingerprint
        let release: Release
        let argument: UnsafeMutableRawPointer?

        /// Checks that the frame is unchanged, and releases it.
        func end(_ plugin: TestedPlugin) {
            check(plugin.findings)
            plugin.call(.release) { release(argument) }
        }

        func check(_ findings: Findings) {
            guard Fingerprint(bytes) != fingerprint else { return }
            findings.record(
                .lent, "a lent frame of \(bytes.count) bytes was changed or freed before its release was called")
        }
    }

    private let leases = NIOLockedValueBox<[Lease]>([])

    func add(_ lease: Lease) { leases.withLockedValue { $0.append(lease) } }

    /// Ends all leases.
    func end(_ plugin: TestedPlugin) {
        let ended = leases.withLockedValue { leases in
            defer { leases = [] }
            return leases
        }
        for lease in ended { lease.end(plugin) }
    }
}

/// The sinks of version 1.0. They have no context pointer, so their owners are found by the sink's address.
enum Sinks10 {
    /// `sizeof(struct chanserv_frame_sink)` and `sizeof(struct chanserv_source_sink)` in version 1.0, which never
    /// change.
    static let frameSinkSize = 40
    static let sourceSinkSize = 24

    private static let owners = NIOLockedValueBox<[UInt: any Sendable]>([:])

    static func owner(of sink: UnsafeRawPointer) -> (any Sendable)? {
        owners.withLockedValue { $0[UInt(bitPattern: sink)] }
    }

    /// Provides the first `size` bytes of `table` for one poll, directly before an inaccessible page.
    static func lend<Table, Result>(
        _ table: Table, size: Int, of owner: any Sendable, _ lender: Lender,
        _ poll: (UnsafeMutablePointer<Table>) -> Result
    ) -> Result {
        let loan = lender.lend(size, isExact: true)
        withUnsafeBytes(of: table) { loan.start.copyMemory(from: $0.baseAddress!, byteCount: size) }
        let address = UInt(bitPattern: loan.start)
        owners.withLockedValue { $0[address] = owner }
        defer {
            owners.withLockedValue { $0[address] = nil }
            lender.end(loan)
        }
        return poll(loan.start.assumingMemoryBound(to: Table.self))
    }
}
