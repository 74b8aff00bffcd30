/// Last output line of a process, which may explain why it could not start.
package struct LastOutput: Sendable, CustomStringConvertible {

    package init() {
    }
    /// Maximum number of bytes of the line that the reason includes.
    static let lineLimit = 500
    /// Texts with which runtimes begin their message when they end a process. The lines after it are stack traces.
    private static let crashMarkers = ["Fatal error", "Assertion failed", "panicked at", "panic:", "terminate called"]

    private var line: String?
    private var isFinal = false

    package mutating func printed(_ line: ArraySlice<UInt8>) {
        guard !isFinal else { return }
        let (_, text) = WorkerOutput.level(of: line)
        guard !text.isEmpty else { return }
        let printable = WorkerOutput.printable(text.prefix(Self.lineLimit))
        self.line = printable
        isFinal = Self.crashMarkers.contains { printable.contains($0) }
    }

    /// Discards the line and ignores further output, because the process has started.
    package mutating func hasStarted() {
        line = nil
        isFinal = true
    }

    /// Suffix for a reason. Empty if the process printed nothing.
    package var description: String { line.map { "; its last output: \($0)" } ?? "" }
}
