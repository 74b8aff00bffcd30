internal import Logging
internal import NIOConcurrencyHelpers

/// Turns what a worker process writes to its standard output and error into log lines of its plugin.
///
/// A line may begin with its level as `<0>` to `<7>`, the notation of sd-daemon(3); the worker's own log does. Others are what
/// a plugin, or its runtime, printed, and are logged as information.
final class WorkerOutput: Sendable {
    /// The longest line, in bytes; longer ones come in pieces.
    static let lineLimit = 16_384
    /// So many lines are logged in a second; what goes beyond is counted and dropped, so that a plugin cannot fill the disk.
    static let linesPerSecond = 1_000

    private struct Allowance {
        var second: UInt64 = 0
        var lines = 0
        var dropped = 0
    }

    private let logger: Logger
    private let allowance = NIOLockedValueBox(Allowance())

    init(logger: Logger) {
        self.logger = logger
    }

    func received(_ line: ArraySlice<UInt8>) {
        let second = monotonicNanoseconds() / 1_000_000_000
        let (isLogged, dropped) = allowance.withLockedValue { allowance -> (Bool, Int) in
            var dropped = 0
            if allowance.second != second {
                dropped = allowance.dropped
                allowance = Allowance(second: second)
            }
            allowance.lines += 1
            if allowance.lines > Self.linesPerSecond { allowance.dropped += 1 }
            return (allowance.lines <= Self.linesPerSecond, dropped)
        }
        if dropped > 0 {
            logger.warning("\(dropped) lines of its output were dropped: more than \(Self.linesPerSecond) a second")
        }
        guard isLogged else { return }
        let (level, rest) = Self.level(of: line)
        logger.log(level: level, "\(Self.printable(rest))")
    }

    /// Text that does nothing to a terminal that shows it.
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
    fileprivate var isControl: Bool {
        unicodeScalars.contains { $0.properties.generalCategory == .control && $0 != "\t" }
    }
}
