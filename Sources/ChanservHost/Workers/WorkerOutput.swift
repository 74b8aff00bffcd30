internal import HostConfiguration
package import Logging
internal import NIOConcurrencyHelpers
internal import PluginRuntime

/// Converter of a worker process's standard output and standard error to log lines of its plugin.
///
/// A line may begin with its level, `<0>` to `<7>`, in the notation of sd-daemon(3). The worker's own log does this.
/// The plugin or its runtime printed all other lines; they are logged at level info.
package final class WorkerOutput: Sendable {
    /// Maximum length of a line in bytes. Longer lines are split.
    static let lineLimit = 16_384
    /// Maximum number of lines and bytes that are logged per second. Further lines are counted and dropped.
    static let linesPerSecond = 1_000
    static let bytesPerSecond = 1 << 20

    private struct Budget {
        var second: UInt64 = 0
        var lines = 0
        var bytes = 0
        var dropped = 0

        /// - Returns: whether to log a line of this size, and the number of dropped lines that were not reported yet.
        mutating func take(_ size: Int, in second: UInt64) -> (isLogged: Bool, dropped: Int) {
            let dropped = begin(second)
            lines += 1
            bytes += size
            let isLogged = lines <= WorkerOutput.linesPerSecond && bytes <= WorkerOutput.bytesPerSecond
            if !isLogged { self.dropped += 1 }
            return (isLogged, dropped)
        }

        /// - Returns: the number of lines dropped in the previous second.
        mutating func begin(_ second: UInt64) -> Int {
            guard second != self.second else { return 0 }
            defer { self = Budget(second: second) }
            return dropped
        }
    }

    private let logger: Logger
    private let budget = NIOLockedValueBox(Budget())

    init(logger: Logger) {
        self.logger = logger
    }

    func received(_ line: ArraySlice<UInt8>) {
        let second = Self.second
        let (isLogged, dropped) = budget.withLockedValue { $0.take(line.count, in: second) }
        logDropped(dropped)
        guard isLogged else { return }
        let (level, rest) = Self.level(of: line)
        logger.log(level: level, "\(Self.printable(rest))")
    }

    /// Logs the number of dropped lines if the second in which they were dropped has passed. Must be called from time
    /// to time.
    func logDroppedLines() {
        let second = Self.second
        logDropped(budget.withLockedValue { $0.begin(second) })
    }

    /// Reports the remaining dropped lines after the last line.
    func finish() {
        logDropped(budget.withLockedValue { $0.begin(.max) })
    }

    private static var second: UInt64 { monotonicNanoseconds() / 1_000_000_000 }

    private func logDropped(_ dropped: Int) {
        guard dropped > 0 else { return }
        logger.warning(
            """
            dropped \(dropped) output lines of the plugin: more than \(Self.linesPerSecond) lines or 1 MiB in a second
            """)
    }

    /// Replaces control characters, so that the text is one line and cannot control a terminal.
    static func printable(_ line: ArraySlice<UInt8>) -> String {
        String(String(decoding: line, as: UTF8.self).map { $0.isControl ? "\u{FFFD}" : $0 })
    }

    /// Splits the level prefix `<N>` from a line.
    package static func level(of line: ArraySlice<UInt8>) -> (Logger.Level, ArraySlice<UInt8>) {
        let start = line.startIndex
        guard line.count >= 3, line[start] == UInt8(ascii: "<"), line[start + 2] == UInt8(ascii: ">"),
            case let digit = line[start + 1], (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(digit)
        else { return (.info, line) }
        let level: Logger.Level =
            switch digit {
            case UInt8(ascii: "7"): .debug
            case UInt8(ascii: "6"): .info
            case UInt8(ascii: "5"): .notice
            case UInt8(ascii: "4"): .warning
            case UInt8(ascii: "3"): .error
            default: .critical
            }
        return (level, line[(start + 3)...])
    }

    /// Returns the digit of a level in the notation of sd-daemon(3).
    static func digit(of level: Logger.Level) -> Int {
        switch level {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}

extension Character {
    fileprivate var isControl: Bool { unicodeScalars.contains { $0.isTerminalControl && $0 != "\t" } }
}
