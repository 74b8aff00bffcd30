import ArgumentParser
import ChanservHost
import Glibc

/// How the commands for a running host find it, and how they answer.
struct ControlOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            The host's configuration file, whose 'node.control' names the socket. \
            (default: \(HostConfiguration.defaultFile))
            """, valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("The host's control socket, instead of a configuration file.", valueName: "path"))
    var socket: String?

    @Flag(help: "Write JSON to standard output: one object on one line.")
    var json = false

    func validate() throws {
        if config != nil, socket != nil {
            throw ValidationError("--config and --socket both say which host is meant: give one of the two")
        }
    }

    /// The path of the socket.
    ///
    /// - Throws: ``ControlFailure``.
    func socketPath() throws(ControlFailure) -> String {
        if let socket { return socket }
        let config = config ?? HostConfiguration.defaultFile
        do throws(ConfigurationErrors) {
            if let path = try HostConfiguration.controlSocket(of: config) { return path }
        } catch {
            throw ControlFailure(exitCode: 65, error.errors.map(\.description))
        }
        throw ControlFailure(
            exitCode: 65,
            ["\(config) sets no control socket: add 'control: chanserv.sock' under 'node' and restart the host"])
    }
}

/// Why a command for a running host failed, and what it ends with.
struct ControlFailure: Error {
    var exitCode: Int32
    /// One line each.
    var problems: [String]
    /// What the host said, where it was the host.
    var error: ControlError?

    init(exitCode: Int32, _ problems: [String]) {
        self.exitCode = exitCode
        self.problems = problems
    }

    init(_ error: ControlError) {
        self.error = error
        problems = [error.message]
        exitCode =
            switch error.code {
            case .unknownVAddr: 64
            case .unknownRequest: 1
            case .busy, .forbidden, .stopping, .timeout: 69
            // This command said something the host does not understand: one of the two is another version.
            case .badRequest, .unknownCommand, .tooLong: 70
            }
    }
}

extension ControlOptions {
    /// Runs `body` with the socket's path; reports its failure and ends as that demands.
    func run(_ body: (String) async throws -> Void) async throws {
        do {
            try await body(try socketPath())
        } catch let failure as ControlFailure {
            for problem in failure.problems { StandardError.write("chanserv: \(problem)") }
            if json, let error = failure.error { try write(StatusAnswer.error(error)) }
            throw ExitCode(failure.exitCode)
        }
    }

    /// Writes an object to standard output, on a line of its own.
    func write(_ value: some Encodable) throws {
        try write(bytes: ControlJSON.line(value))
    }

    /// Writes text to standard output.
    func write(text: String) throws {
        try write(bytes: Array(text.utf8))
    }

    private func write(bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { try writeAll($0, to: STDOUT_FILENO, name: "standard output") }
    }
}
