import Dispatch
import Glibc
import NIOConcurrencyHelpers

/// Writes log lines to a descriptor on its own queue, so that a slow reader of the log does not delay the loggers.
///
/// The queue is bounded. If it is full, new lines are dropped. After the queued lines, one line with the number of
/// dropped lines takes their place.
package final class LogWriter: Sendable {
    /// Default limit of the queue in bytes (1 MiB).
    package static let defaultLimit = 1 << 20
    /// Default time that ``flush(within:)`` waits. It is short because the reader of the log may have stopped reading.
    static let flushTime = DispatchTimeInterval.seconds(1)

    private struct Pending {
        var lines: [String] = []
        var bytes = 0
        /// Number of lines dropped after `lines`.
        var dropped = 0
        /// Whether a block on the queue writes lines, or is scheduled to, until there are none.
        var isBeingWritten = false
    }

    private let descriptor: Int32
    private let limit: Int
    private let lossLine: @Sendable (Int) -> String
    private let pending = NIOLockedValueBox(Pending())
    private let queue = DispatchQueue(label: "chanserv.log")

    /// - Parameters:
    ///   - descriptor: the file to write to. The caller keeps ownership.
    ///   - limit: the maximum number of queued bytes.
    ///   - lossLine: returns the line that reports a number of dropped lines.
    package init(
        _ descriptor: Int32 = STDERR_FILENO, limit: Int = defaultLimit, lossLine: @escaping @Sendable (Int) -> String
    ) {
        self.descriptor = descriptor
        self.limit = limit
        self.lossLine = lossLine
    }

    /// Queues a line without its line feed. Does not block.
    package func write(_ line: String) {
        let size = line.utf8.count + 1
        let isIdle = pending.withLockedValue { pending in
            // After a dropped line all further lines are dropped, also short ones, so that the report stands at the
            // gap.
            guard pending.dropped == 0, pending.bytes + size <= limit else {
                pending.dropped += 1
                return false
            }
            pending.lines.append(line)
            pending.bytes += size
            defer { pending.isBeingWritten = true }
            return !pending.isBeingWritten
        }
        if isIdle { queue.async { self.writeAllPending() } }
    }

    /// Waits until all lines queued so far are written, at most for `time`. Blocks.
    package func flush(within time: DispatchTimeInterval = flushTime) {
        let done = DispatchSemaphore(value: 0)
        queue.async {
            // A thread in `write(_:)` may have marked the lines as being written but not scheduled its block yet.
            self.writeAllPending()
            done.signal()
        }
        _ = done.wait(timeout: .now() + time)
    }

    private func writeAllPending() {
        while let next = takeAll() {
            for line in next.lines { send(line) }
            if next.dropped > 0 { send(lossLine(next.dropped)) }
        }
    }

    private func takeAll() -> Pending? {
        pending.withLockedValue { pending in
            guard !pending.lines.isEmpty || pending.dropped > 0 else {
                pending.isBeingWritten = false
                return nil
            }
            defer { pending = Pending(isBeingWritten: true) }
            return pending
        }
    }

    /// Writes a line, if possible in a single write.
    ///
    /// Ignores errors: if the log cannot be written, there is no place left to report one.
    private func send(_ line: String) {
        var line = line + "\n"
        line.withUTF8 { bytes in
            do throws(SystemError) {
                try writeAll(UnsafeRawBufferPointer(bytes), to: descriptor, name: "the log")
            } catch {}
        }
    }
}
