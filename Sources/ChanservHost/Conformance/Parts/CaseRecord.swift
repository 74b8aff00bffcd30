internal import Glibc
internal import NIOConcurrencyHelpers

/// What a case leaves behind however its process ends: which functions of the plugin were running, and its verdict.
///
/// It is in a file without a name that the parent and the child share: the child writes, the parent reads after the
/// child's end, so that neither has to wait for the other.
final class CaseRecord: Sendable {
    /// How often each function was entered, then how often it was left.
    ///
    /// `nonisolated(unsafe)`: written with `lock` held.
    nonisolated(unsafe) private let counts: UnsafeMutablePointer<UInt32>
    private let descriptor: Int32
    private let lock = NIOLock()

    private static let pageSize = 4096
    /// Where the counts of functions that were left begin.
    private static let left = 64

    /// - Parameter descriptor: of the shared file.
    /// - Returns: `nil` where it is no such file.
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

    /// What was entered and not left.
    var running: [PluginFunction] {
        PluginFunction.allCases.filter { counts[$0.rawValue] != counts[Self.left + $0.rawValue] }
    }

    /// Writes the verdict, the last thing that a case does.
    func finish(_ verdict: Verdict) {
        let text = Array(verdict.text.utf8)
        text.withUnsafeBytes { bytes in
            // On a file in memory nothing is written in part; where it is not written at all, the parent says so.
            _ = pwrite(descriptor, bytes.baseAddress, bytes.count, off_t(Self.pageSize))
        }
    }

    /// The verdict; `nil` where the process ended before there was one.
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
