import ArgumentParser
import ChanservHost

/// `chanserv reload`: what SIGHUP does, with an answer.
struct Reload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a running host read its configuration and plugins again, and says what came of it.",
        discussion: """
            All of it takes effect or, if anything is wrong, none. Waits until it is over and writes what changed to \
            standard output; the reasons of a refusal, and warnings, go to standard error. SIGHUP does the same \
            without an answer.

            The host is found through 'control' under 'node' in its configuration, or with --socket.

            Exits with 0, with 65 if the reload was refused, or with 69 if no host answers.

            EXAMPLES
              chanserv reload
              chanserv reload --config /etc/chanserv.yaml
              chanserv reload --socket /run/chanserv/chanserv.sock --json | jq .changes.repointed
            """)

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            let report = try await ControlClient.ask(.reload, at: path, as: ReloadAnswer.self)
            for warning in report.warnings { StandardError.write("warning: \(warning)") }
            for reason in report.reasons { StandardError.write(reason) }
            if options.json { try options.write(report) } else { try options.write(text: Self.text(report) + "\n") }
            if report.result == .refused { throw ExitCode(65) }
        }
    }

    static func text(_ report: ReloadReport) -> String {
        switch report.result {
        case .unchanged: return "nothing has changed: still generation \(report.generation)"
        case .refused: return "reload rejected; still serving generation \(report.generation)"
        case .changed: return "generation \(report.generation): \(report.changes)"
        }
    }
}
