internal import Glibc
internal import NIOConcurrencyHelpers

/// The record of a case that survives any end of its process: the running functions of the plugin, and the verdict.
///
/// It is in an unnamed file that parent and child share. The child writes and the parent reads after the child's end,
/// so neither waits for the other.
final class CaseRecord: Sendable {
    /// How often each function was entered, then how often it returned.
    ///
    /// `nonisolated(unsafe)`: written while `lock` is held.
    nonisolated(unsafe) private let counts: UnsafeMutablePointer<UInt32>
    private let descriptor: Int32
    private let lock = NIOLock()

    private static let pageSize = 4096
    /// The index of the first count of returns.
    private static let left = 64

    /// - Parameter descriptor: the shared file.
    /// - Returns: `nil` if the descriptor is not such a file.
    init?(descriptor: Int32) {
        guard ftruncate(descriptor, off_t(Self.pageSize)) == 0 else { return nil }
        let page = mmap(nil, Self.pageSize, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let page, page != MAP_FAILED else { return nil }
        self.descriptor = descriptor
        counts = page.bindMemory(to: UInt32.self, capacity: Self.pageSize / 4)
    }

    deinit { munmap(counts, Self.pageSize) }

    func entered(_ function: PluginFunction) {
        lock.withLock { counts[function.rawValue] &+= 1 }
    }

    func left(_ function: PluginFunction) {
        lock.withLock { counts[Self.left + function.rawValue] &+= 1 }
    }

    /// The functions that were entered and have not returned.
    var running: [PluginFunction] {
        PluginFunction.allCases.filter { counts[$0.rawValue] != counts[Self.left + $0.rawValue] }
    }

    /// Writes the verdict. This is the last action of a case.
    func finish(_ verdict: Verdict) {
        let text = Array(verdict.text.utf8)
        text.withUnsafeBytes { bytes in
            // A write to a file in memory is never partial. If it fails, the parent reports a case without a verdict.
            _ = pwrite(descriptor, bytes.baseAddress, bytes.count, off_t(Self.pageSize))
        }
    }

    /// The verdict; `nil` if the process ended without one.
    var verdict: Verdict? {
        var status = stat()
        guard fstat(descriptor, &status) == 0, Int(status.st_size) > Self.pageSize else { return nil }
        let size = Int(status.st_size) - Self.pageSize
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            count = max(0, pread(descriptor, buffer.baseAddress, size, off_t(Self.pageSize)))
        }
        return Verdict(text: String(decoding: bytes, as: UTF8.self))
    }
}
