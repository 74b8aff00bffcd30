import ChanservHost
import Glibc

extension ControlOptions {
    /// Sends `request` and shows each report until Ctrl-C, or until an error.
    ///
    /// - Parameters:
    ///   - answer: the type of the answers.
    ///   - text: renders one report as text.
    func watch<Report: Codable & Sendable>(
        _ request: ControlRequest, at path: String, as answer: ControlAnswer<Report, Report>.Type,
        _ text: @escaping @Sendable (Report) -> String
    ) async throws {
        let isTerminal = isatty(STDOUT_FILENO) == 1
        let json = json
        let work = Task {
            var isFirst = true
            _ = try await ask(request, at: path, as: answer) { report in
                if json {
                    try write(report)
                } else if isTerminal {
                    try write(text: Terminal.page(text(report), width: Terminal.width(of: STDOUT_FILENO)))
                } else {
                    try write(text: (isFirst ? "" : "\n") + text(report))
                }
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
        }
    }
}
