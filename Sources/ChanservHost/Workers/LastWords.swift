/// What a process printed last, for the reason why it could not start.
struct LastWords: Sendable, CustomStringConvertible {
    /// As much of a line as a reason repeats, in bytes.
    static let lineLimit = 500
    /// What runtimes say first when they end a process; what follows is where in their own code that was.
    private static let verdicts = ["Fatal error", "Assertion failed", "panicked at", "panic:", "terminate called"]

    private var line: String?
    private var isOver = false

    mutating func printed(_ line: ArraySlice<UInt8>) {
        guard !isOver else { return }
        let (_, text) = WorkerOutput.level(of: line)
        guard !text.isEmpty else { return }
        let printable = WorkerOutput.printable(text.prefix(Self.lineLimit))
        self.line = printable
        isOver = Self.verdicts.contains { printable.contains($0) }
    }

    /// It has started: what it prints from now on is of no interest here.
    mutating func hasStarted() {
        line = nil
        isOver = true
    }

    /// To be put behind a reason: empty where nothing was printed.
    var description: String { line.map { "; the last it printed: \($0)" } ?? "" }
}
