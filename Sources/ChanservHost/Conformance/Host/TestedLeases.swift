internal import Glibc
internal import NIOConcurrencyHelpers

/// Frames that a plugin has lent.
final class TestedLeases: Sendable {
    /// One frame, with what it was when it was lent.
    ///
    /// `@unchecked Sendable`: addresses of the plugin's, read and passed back until the end of the lease only.
    struct Lease: @unchecked Sendable {
        typealias Release = @convention(c) (UnsafeMutableRawPointer?) -> Void

        let bytes: UnsafeRawBufferPointer
        let fingerprint: Fingerprint
        let release: Release
        let argument: UnsafeMutableRawPointer?

        /// Looks whether the frame is as it was, and releases it.
        func end(_ plugin: TestedPlugin) {
            check(plugin.findings)
            plugin.call(.release) { release(argument) }
        }

        func check(_ findings: Findings) {
            guard Fingerprint(bytes) != fingerprint else { return }
            findings.saw(
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

/// The sinks of version 1.0, which have no place for a pointer of the host's, by their addresses.
enum Sinks10 {
    /// `sizeof(struct chanserv_frame_sink)` and of `struct chanserv_source_sink` in version 1.0, which never grow.
    static let frameSinkSize = 40
    static let sourceSinkSize = 24

    private static let owners = NIOLockedValueBox<[UInt: any Sendable]>([:])

    static func owner(of sink: UnsafeRawPointer) -> (any Sendable)? {
        owners.withLockedValue { $0[UInt(bitPattern: sink)] }
    }

    /// Lends `size` bytes of `table`, with nothing behind them, for one poll.
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
