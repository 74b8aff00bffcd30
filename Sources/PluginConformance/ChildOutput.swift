internal import Glibc
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// The pipe for a child's standard output and error. The first 4 KiB are kept.
///
/// `@unchecked Sendable`: each descriptor is closed once. ``closeWriter()`` closes the writer before the object is
/// shared; the reading thread closes the reader.
final class ChildOutput: @unchecked Sendable {
    private let reader: Int32
    private(set) var writer: Int32
    private static let limit = 4_096
    /// Monotonic time in nanoseconds at which reading ends, even if another process still has the writing end open.
    private let end = NIOLockedValueBox<UInt64?>(nil)
    /// Time for the last output of the child to arrive.
    private static let drainTime = Duration.milliseconds(500)

    init() throws(ProcessError) {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw ProcessError("cannot create a pipe", code: errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        (reader, writer) = (ends[0], ends[1])
    }

    /// Closes the parent's writing end; the child has its own copy.
    func closeWriter() {
        close(writer)
        writer = -1
    }

    /// Ends the reading soon. Processes that the child has started may still have the writing end open.
    func childHasEnded() {
        end.withLockedValue { $0 = monotonicTime(in: Self.drainTime) }
    }

    /// Reads until every writing end is closed, or until shortly after ``childHasEnded()``. Reading all output keeps
    /// the child from blocking on a full pipe. Returns the first 4 KiB.
    func collect() async -> [UInt8] {
        await withUnsafeContinuation { continuation in
            let thread = CaseThread { [reader, end] in
                var kept: [UInt8] = []
                var part = [UInt8](repeating: 0, count: 4_096)
                while end.withLockedValue({ $0.map { monotonicNanoseconds() < $0 } ?? true }) {
                    var readiness = pollfd(fd: reader, events: Int16(POLLIN), revents: 0)
                    guard poll(&readiness, 1, 50) != 0 else { continue }
                    let count = read(reader, &part, part.count)
                    if count < 0, errno == EINTR { continue }
                    guard count > 0 else { break }
                    kept += part[..<count].prefix(Self.limit - kept.count)
                }
                close(reader)
                continuation.resume(returning: kept)
            }
            thread.detach()
        }
    }
}
