import ArgumentParser
import ChanservHost

/// `chanserv upgrade`: replaces a running host by a new process of the installed program.
struct Upgrade: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Replaces a running host by a new process, without a gap.",
        usage: "chanserv upgrade [<options>]",
        discussion: """
            The host starts the program that is now at its path, with its own arguments and --take-over. The new \
            process reads the configuration, loads the plugins and takes over the listening sockets. Then the old one \
            lets its requests end for up to 'node.drain' and exits. The command returns when the new process serves.

            If the new process does not start, nothing changes: the command prints the reasons. SIGUSR2 does the same, \
            but reports only to the host's log.

            The command finds the host by 'control' under 'node' in its configuration, or by --socket.

            Exit codes: 0 success; 65 the configuration or a plugin is wrong for the new process, or no control socket \
            is configured; 69 the new process did not start for another reason, or no host answers.

            EXAMPLES
              chanserv upgrade
              chanserv upgrade --config /etc/chanserv.yaml
            """)

    @OptionGroup var options: ControlOptions

    func run() async throws {
        try await options.run { path in
            let outcome = try await options.ask(.upgrade, at: path, as: UpgradeAnswer.self)
            for reason in outcome.reasons { StandardError.report(reason) }
            if options.json {
                try options.write(outcome)
            } else {
                let text =
                    switch outcome.result {
                    case .upgraded: "process \(outcome.pid) serves now"
                    case .failed: "upgrade failed; process \(outcome.pid) serves as before"
                    }
                try options.write(text: text + "\n")
            }
            if outcome.result == .failed { throw ExitCode(outcome.exitCode == 65 ? 65 : 69) }
        }
    }
}
