import Dispatch
import Glibc
import NIOConcurrencyHelpers

/// Writes lines to a descriptor beside those who log them: whoever reads a log, or does not, holds up nobody but this.
///
/// Lines that wait are bounded. Where there is no room the ones that come are left out, and one line at their place says how
/// many they were, as soon as the others are written.
final class LogWriter: Sendable {
    /// How many bytes of lines may wait, by default.
    static let defaultLimit = 1 << 20
    /// How long the end of the process waits for the lines that are left: no longer than anybody minds, for nobody may read.
    static let flushTime = DispatchTimeInterval.seconds(1)

    private struct Waiting {
        var lines: [String] = []
        var bytes = 0
        /// Came after `lines`, and found no room.
        var lost = 0
        /// Somebody takes them out, again and again until there are none.
        var isBeingWritten = false
    }

    private let descriptor: Int32
    private let limit: Int
    private let lossLine: @Sendable (Int) -> String
    private let waiting = NIOLockedValueBox(Waiting())
    private let queue = DispatchQueue(label: "chanserv.log")

    /// - Parameters:
    ///   - descriptor: where to; stays the caller's.
    ///   - limit: how many bytes of lines may wait.
    ///   - lossLine: the line that says that so many were left out.
    init(
        _ descriptor: Int32 = STDERR_FILENO, limit: Int = defaultLimit, lossLine: @escaping @Sendable (Int) -> String
    ) {
        self.descriptor = descriptor
        self.limit = limit
        self.lossLine = lossLine
    }

    /// Queues a line, without its end. Does not block.
    func write(_ line: String) {
        let size = line.utf8.count + 1
        let isIdle = waiting.withLockedValue { waiting in
            // What comes after a lost one is lost too, however short: the count stands where the lines are missing.
            guard waiting.lost == 0, waiting.bytes + size <= limit else {
                waiting.lost += 1
                return false
            }
            waiting.lines.append(line)
            waiting.bytes += size
            defer { waiting.isBeingWritten = true }
            return !waiting.isBeingWritten
        }
        if isIdle { queue.async { self.writeAllThatWait() } }
    }

    /// Waits until all lines are written that were queued before, or for a moment where nobody reads them. Blocks.
    func flush(within time: DispatchTimeInterval = flushTime) {
        let done = DispatchSemaphore(value: 0)
        queue.async {
            // Whoever is to begin with it may not have come that far, while lines of others rely on it.
            self.writeAllThatWait()
            done.signal()
        }
        _ = done.wait(timeout: .now() + time)
    }

    private func writeAllThatWait() {
        while let next = takeAll() {
            for line in next.lines { send(line) }
            if next.lost > 0 { send(lossLine(next.lost)) }
        }
    }

    private func takeAll() -> Waiting? {
        waiting.withLockedValue { waiting in
            guard !waiting.lines.isEmpty || waiting.lost > 0 else {
                waiting.isBeingWritten = false
                return nil
            }
            defer { waiting = Waiting(isBeingWritten: true) }
            return waiting
        }
    }

    /// Writes a line, whole and in a single write where that is possible. Where nobody can read it any more there is nobody
    /// left to tell.
    private func send(_ line: String) {
        var line = line + "\n"
        line.withUTF8 { bytes in
            do throws(SystemError) {
                try writeAll(UnsafeRawBufferPointer(bytes), to: descriptor, name: "the log")
            } catch {}
        }
    }
}
