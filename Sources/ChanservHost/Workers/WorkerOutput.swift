internal import Logging
internal import NIOConcurrencyHelpers

/// Turns what a worker process writes to its standard output and error into log lines of its plugin.
///
/// A line may begin with its level as `<0>` to `<7>`, the notation of sd-daemon(3); the worker's own log does. Others are what
/// a plugin, or its runtime, printed, and are logged as information.
final class WorkerOutput: Sendable {
    /// The longest line, in bytes; longer ones come in pieces.
    static let lineLimit = 16_384
    /// So many lines are logged in a second, and so many bytes; what goes beyond is counted and dropped.
    static let linesPerSecond = 1_000
    static let bytesPerSecond = 1 << 20

    private struct Allowance {
        var second: UInt64 = 0
        var lines = 0
        var bytes = 0
        var dropped = 0

        /// - Returns: whether a line of so many bytes is logged, and how many were dropped before it that nobody was told of.
        mutating func take(_ size: Int, in second: UInt64) -> (isLogged: Bool, dropped: Int) {
            let dropped = begin(second)
            lines += 1
            bytes += size
            let isLogged = lines <= WorkerOutput.linesPerSecond && bytes <= WorkerOutput.bytesPerSecond
            if !isLogged { self.dropped += 1 }
            return (isLogged, dropped)
        }

        /// - Returns: how many lines were dropped in the second before.
        mutating func begin(_ second: UInt64) -> Int {
            guard second != self.second else { return 0 }
            defer { self = Allowance(second: second) }
            return dropped
        }
    }

    private let logger: Logger
    private let allowance = NIOLockedValueBox(Allowance())

    init(logger: Logger) {
        self.logger = logger
    }

    func received(_ line: ArraySlice<UInt8>) {
        let second = Self.second
        let (isLogged, dropped) = allowance.withLockedValue { $0.take(line.count, in: second) }
        tell(dropped)
        guard isLogged else { return }
        let (level, rest) = Self.level(of: line)
        logger.log(level: level, "\(Self.printable(rest))")
    }

    /// Says what was dropped, where the second is over in which it was. To be called now and then.
    func tellDropped() {
        let second = Self.second
        tell(allowance.withLockedValue { $0.begin(second) })
    }

    /// No line will come.
    func finish() {
        tell(allowance.withLockedValue { $0.begin(.max) })
    }

    private static var second: UInt64 { monotonicNanoseconds() / 1_000_000_000 }

    private func tell(_ dropped: Int) {
        guard dropped > 0 else { return }
        logger.warning(
            "\(dropped) lines of its output were dropped: more than \(Self.linesPerSecond), or 1 MiB, in a second")
    }

    /// Text that does nothing to a terminal that shows it, and is one line on it.
    static func printable(_ line: ArraySlice<UInt8>) -> String {
        String(String(decoding: line, as: UTF8.self).map { $0.isControl ? "\u{FFFD}" : $0 })
    }

    /// `<N>` in front of a line.
    static func level(of line: ArraySlice<UInt8>) -> (Logger.Level, ArraySlice<UInt8>) {
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

    /// The digit of a level.
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
    fileprivate var isControl: Bool { unicodeScalars.contains { $0.commandsTerminals && $0 != "\t" } }
}
