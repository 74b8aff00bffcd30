internal import Glibc
internal import NIOConcurrencyHelpers

/// The pipe into which a child's standard output and error go, of which the beginning is kept.
///
/// `@unchecked Sendable`: the descriptors are closed once each, the writer by ``closeWriter()`` before anybody else has
/// the object, the reader by the thread that reads.
final class ChildOutput: @unchecked Sendable {
    private let reader: Int32
    private(set) var writer: Int32
    private static let limit = 4_096
    /// On the monotonic clock: when nothing more is read, whoever still has the writing end.
    private let end = NIOLockedValueBox<UInt64?>(nil)
    /// How long what a child wrote last may be on its way.
    private static let patience = Duration.milliseconds(500)

    init() throws(ProcessError) {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw ProcessError("cannot make a pipe", code: errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        (reader, writer) = (ends[0], ends[1])
    }

    /// The child has its own.
    func closeWriter() {
        close(writer)
        writer = -1
    }

    /// The child has ended; what it has started may go on, and write on.
    func childHasEnded() {
        end.withLockedValue { $0 = monotonicTime(in: Self.patience) }
    }

    /// Reads until everybody who has the writing end is gone, or until shortly after ``childHasEnded()``, so that the child
    /// does not wait to write; keeps some KiB.
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
