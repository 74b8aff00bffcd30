import ChanservHost
import Glibc

extension ControlOptions {
    /// Sends `request` and shows each report until Ctrl-C, or until the reader of standard output closes it.
    ///
    /// - Parameters:
    ///   - answer: the type of the answers.
    ///   - show: writes one report after `separator`, the text that separates it from the previous report.
    func watch<Report: Codable & Sendable>(
        _ request: ControlRequest, at path: String, as answer: ControlAnswer<Report, Report>.Type,
        _ show: @escaping @Sendable (Report, _ separator: String) throws -> Void
    ) async throws {
        let isTerminal = isatty(STDOUT_FILENO) == 1
        let json = json
        let work = Task {
            var isFirst = true
            _ = try await ControlClient.ask(request, at: path, as: answer) { report in
                // On a terminal: cursor home and clear screen.
                let separator = json ? "" : isTerminal ? "\u{1B}[H\u{1B}[2J" : isFirst ? "" : "\n"
                try show(report, separator)
                isFirst = false
            }
        }
        let signals = await SignalHandling(
            onReload: { work.cancel() }, onStop: { work.cancel() }, onImmediateEnd: { _exit(0) })
        defer { signals.cancel() }
        do {
            try await work.value
        } catch is CancellationError {
            // Ctrl-C is the normal end of a watch.
        } catch let error as SystemError where error.code == EPIPE {
            // The reader of standard output closed it, which is a normal end too.
        }
    }
}
