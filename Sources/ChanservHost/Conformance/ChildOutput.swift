internal import Glibc

/// The pipe into which a child's standard output and error go, of which the beginning is kept.
///
/// `@unchecked Sendable`: the descriptors are closed once each, the writer by ``closeWriter()`` before anybody else has
/// the object, the reader by the thread that reads.
final class ChildOutput: @unchecked Sendable {
    private let reader: Int32
    private(set) var writer: Int32
    private static let limit = 4_096

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

    /// Reads until everybody who has the writing end is gone, so that nobody waits to write; keeps some KiB.
    func collect() async -> [UInt8] {
        await withUnsafeContinuation { continuation in
            let thread = CaseThread { [reader] in
                var kept: [UInt8] = []
                var part = [UInt8](repeating: 0, count: 4_096)
                while true {
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
