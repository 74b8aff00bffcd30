import Glibc
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// Standard output, standard error and the progress line of `chanserv post`.
///
/// They may be the same terminal, so one thread makes all writes, in order. A slow reader delays only the tasks that
/// write here.
final class CommandOutput: Sendable {
    private let thread: NIOThreadPool
    /// Whether standard output can overwrite the progress line.
    private let outputIsTerminal = isatty(STDOUT_FILENO) == 1
    /// Whether standard error is a terminal, which shows the progress line.
    let showsProgress = isatty(STDERR_FILENO) == 1
    /// Number of writes to standard output that have not ended.
    private let unfinished = NIOLockedValueBox(0)
    /// Whether the terminal's last line is a progress line. Only the thread accesses it.
    private let progressIsShown = NIOLockedValueBox(false)

    init() {
        thread = NIOThreadPool(numberOfThreads: 1)
        thread.start()
    }

    /// Writes to standard output and returns after the write.
    ///
    /// - Throws: ``SystemError``; its code is `EPIPE` if the reader closed standard output.
    func write(_ bytes: ByteBuffer) async throws {
        unfinished.withLockedValue { $0 += 1 }
        defer { unfinished.withLockedValue { $0 -= 1 } }
        try await thread.runIfActive {
            if self.outputIsTerminal { self.clearProgress() }
            try bytes.withUnsafeReadableBytes { try writeAll($0, to: STDOUT_FILENO, name: "standard output") }
        }
    }

    /// Whether a write waits for the reader of standard output.
    var isWriting: Bool { unfinished.withLockedValue { $0 > 0 } }

    /// Writes a line to standard error. Control characters are escaped, because the line can contain text from a
    /// plugin.
    func report(_ line: String) async {
        await writeError {
            self.clearProgress(); return "chanserv: \(line.visible)\n"
        }
    }

    /// Replaces the progress line. Does nothing if standard error is not a terminal.
    func draw(_ progress: PostProgress, rate: Double) async {
        guard showsProgress else { return }
        await writeError {
            self.progressIsShown.withLockedValue { $0 = true }
            return "\r\(progress.line(rate: rate, width: Self.terminalWidth()))\u{1B}[K"
        }
    }

    /// Removes the progress line.
    func clear() async {
        await writeError {
            self.clearProgress(); return ""
        }
    }

    /// Ends the progress line with a line feed, so that it stays visible.
    func finish() async {
        await writeError { self.progressIsShown.withLockedValue { exchange(&$0, with: false) } ? "\n" : "" }
    }

    private func writeError(_ text: @escaping @Sendable () -> String) async {
        do {
            try await thread.runIfActive { StandardError.draw(text()) }
        } catch {
            // The task was cancelled before the thread ran the block, so the line is not needed any more.
        }
    }

    private func clearProgress() {
        guard progressIsShown.withLockedValue({ exchange(&$0, with: false) }) else { return }
        StandardError.draw("\r\u{1B}[K")
    }

    private static func terminalWidth() -> Int { Terminal.width(of: STDERR_FILENO) ?? 80 }
}

private func exchange<T>(_ value: inout T, with new: T) -> T {
    let old = value
    value = new
    return old
}
