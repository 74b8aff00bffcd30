@preconcurrency internal import Dispatch
internal import Glibc
internal import NIOConcurrencyHelpers

/// Reader of lines from a pipe or a socket as they arrive. It splits lines that are too long, so that a writer cannot
/// make it buffer more than one line.
package final class LineReader: Sendable {
    private let source: ReadSource
    private let ended = OneTimeEvent()

    /// - Parameters:
    ///   - descriptor: the reader owns it from now on and reads without blocking.
    ///   - limit: maximum length of a line in bytes, without its newline.
    ///   - onLine: receives each line without its newline, one after the other.
    ///   - onEnd: called once after the last line, also after ``cancel()``.
    package init(
        _ descriptor: Int32, limit: Int, onLine: @escaping @Sendable (ArraySlice<UInt8>) -> Void,
        onEnd: @escaping @Sendable () -> Void = {}
    ) {
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        // Uses the global threads. Without this target each reader would occupy an additional thread at times.
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
            // At most four reads. Then other readers get a turn; the source fires again if more is readable.
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
            // Reads bytes that a process wrote before its end and that were not read in time. Limited to the capacity
            // of a pipe, because another process may continue to write.
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
            // The system is out of memory for it. An unreadable descriptor counts as ended, and the callers then end
            // the process at its other end.
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

        /// Passes pieces of `limit` bytes to `onLine` until at most one line remains.
        func takePieces(_ start: inout Int, upTo end: Int) {
            while end - start > limit {
                onLine(rest[start..<start + limit])
                start += limit
            }
        }
    }

    /// Stops reading.
    package func cancel() { source.cancel() }

    /// Waits until everything was read, at most until `deadline`.
    package func waitForEnd(until deadline: ContinuousClock.Instant) async { _ = await ended.wait(until: deadline) }
}
