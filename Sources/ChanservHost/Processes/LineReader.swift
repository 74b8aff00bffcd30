@preconcurrency internal import Dispatch
internal import Glibc
internal import NIOConcurrencyHelpers

/// Reads lines from a pipe or a socket as they come. A line that is too long is handed over in pieces, so that whatever
/// writes there cannot make this hold more than one.
final class LineReader: Sendable {
    private let source: ReadSource
    private let ended = Event()

    /// - Parameters:
    ///   - descriptor: owned from now on, and read without blocking.
    ///   - limit: how many bytes a line may have, without its end.
    ///   - onLine: gets each line without its end, one after the other.
    ///   - onEnd: called once, after the last line, also for ``cancel()``.
    init(
        _ descriptor: Int32, limit: Int, onLine: @escaping @Sendable (ArraySlice<UInt8>) -> Void,
        onEnd: @escaping @Sendable () -> Void = {}
    ) {
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        // On the threads that are there anyway: with a queue of its own each reader would keep one more busy now and then.
        let queue = DispatchQueue(label: "chanserv.lines", target: .global())
        let rest = NIOLockedValueBox<[UInt8]>([])
        let take: @Sendable (ArraySlice<UInt8>) -> Void = { bytes in
            rest.withLockedValue { rest in
                rest += bytes
                Self.takeLines(&rest, limit: limit, onLine)
            }
        }
        let onReadable: @Sendable (ReadSource) -> Void = { source in
            var part = [UInt8](repeating: 0, count: 1 << 14)
            // A few times, then others get their turn: the source fires again while there is more.
            for _ in 0..<4 {
                let count = read(descriptor, &part, part.count)
                if count < 0 {
                    if errno == EINTR { continue }
                    if errno != EAGAIN { source.cancel() }
                    return
                }
                if count == 0 { return source.cancel() }
                take(part[..<count])
            }
        }
        let ended = ended
        source = ReadSource(descriptor, on: queue, onReadable: onReadable) {
            // What was written before the end of a process is here, also where nobody came to read it in time. No more than a
            // pipe holds: another may go on writing.
            var part = [UInt8](repeating: 0, count: 1 << 16)
            let count = read(descriptor, &part, part.count)
            if count > 0 { take(part[..<count]) }
            close(descriptor)
            let last = rest.withLockedValue { rest in
                defer { rest = [] }
                return rest
            }
            if !last.isEmpty { onLine(last[...]) }
            onEnd()
            ended.happened()
        }
        do throws(ProcessError) {
            try source.activate()
        } catch {
            // The system is out of memory for it. What cannot be read has ended: the callers end the process at the other end.
            source.cancel()
        }
    }

    private static func takeLines(
        _ rest: inout [UInt8], limit: Int, _ onLine: (ArraySlice<UInt8>) -> Void
    ) {
        var start = 0
        while let end = rest[start...].firstIndex(of: UInt8(ascii: "\n")) {
            takePieces(&start, upTo: end)
            onLine(rest[start..<end])
            start = end + 1
        }
        takePieces(&start, upTo: rest.count)
        rest.removeFirst(start)

        /// Leaves no more than may be one line.
        func takePieces(_ start: inout Int, upTo end: Int) {
            while end - start > limit {
                onLine(rest[start..<start + limit])
                start += limit
            }
        }
    }

    /// Reads no more.
    func cancel() { source.cancel() }

    /// Waits until all was read, at the longest until `deadline`.
    func waitForEnd(until deadline: ContinuousClock.Instant) async { _ = await ended.wait(until: deadline) }
}
