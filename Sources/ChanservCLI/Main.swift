import ArgumentParser
import Chanserv
import ChanservHost
import Glibc

/// The `chanserv` command. Each subcommand has its own file.
@main
struct ChanservCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chanserv",
        abstract: "Turns shared libraries into streaming network services.",
        discussion: """
            EXIT CODES
              0    success
              1    post, bench: the request or a source failed
                   drain: the route was enabled again, or the
                     host is stopping
                   cancel: the request is not open
                   plugin test: a case failed
              64   the command line is wrong
              65   the configuration, a plugin or a certificate
                   is wrong
              66   post: the request body cannot be read
              69   unavailable: an address is in use, no host
                   answers, a limit is reached, a plugin does
                   not start in time, or similar
              70   internal error in chanserv
              130  post, mesh, bench: interrupted
              141  the reader of standard output closed it
            """,
        version: version,
        subcommands: [
            Serve.self, Post.self, Check.self, Plugin.self, Certificates.self, Router.self, Mesh.self, Bench.self,
            Status.self, Requests.self, Links.self, Cancel.self, Reload.self, Rollback.self, Promote.self, Upgrade.self,
            Drain.self, Enable.self, Version.self,
        ])

    static let version = "0.1.0"

    static func main() async {
        ProcessStart.openStandardDescriptors()
        ProcessStart.leaveInit()
        // An ignored SIGCHLD is inherited from the parent process. With it, waitid(2) cannot report how a child ended.
        signal(SIGCHLD, SIG_DFL)
        FreedMemory.keep()
        TimeSlice.requestShort()
        let arguments = CommandLineArguments.all
        // A worker process of a host is no command for users. The parser would take a third of the processor time of
        // its start.
        if let host = WorkerMain.host(in: arguments) { await WorkerMain.run(host: host) }
        do {
            try CommandPath.check(arguments)
            var command = try parseAsRoot(arguments)
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            end(with: error, arguments)
        }
    }

    /// Reports an error, or prints the help or the version that was asked for, and ends the process.
    private static func end(with error: any Error, _ arguments: [String]) -> Never {
        let code = exitCode(for: error)
        switch error {
        case let error as SystemError where error.isClosedOutput:
            Glibc.exit(CommandOutcome.outputClosed.exitCode)
        case let problem as CommandLineProblem:
            end(with: problem)
        case is ExitCode:
            break
        case _ where code == .success:
            do {
                // The parser puts names of arguments in brackets, also '-'.
                try StandardOutput.write(fullMessage(for: error).replacing("<->  ", with: "-    ") + "\n")
            } catch {
                Glibc.exit(error.isClosedOutput ? CommandOutcome.outputClosed.exitCode : 1)
            }
        case _ where code == .validationFailure:
            end(with: CommandLineProblem(error, arguments: arguments))
        default:
            StandardError.report(message(for: error))
        }
        Glibc.exit(code.rawValue)
    }

    private static func end(with problem: CommandLineProblem) -> Never {
        StandardError.report(problem.message)
        StandardError.write("see '\(problem.command) --help'")
        Glibc.exit(ExitCode.validationFailure.rawValue)
    }
}
