import ArgumentParser
import ChanservHost
import Glibc
import HostConfiguration

/// Options of the commands that control a running host.
struct ControlOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            The host's configuration file; 'node.control' in it names the control socket. \
            (default: \(HostConfiguration.defaultFile))
            """, valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("The host's control socket. Replaces --config.", valueName: "path"))
    var socket: String?

    @Flag(help: "Print JSON instead of text: one object on one line.")
    var json = false

    func validate() throws {
        if config != nil, socket != nil {
            throw ValidationError("--config and --socket exclude each other: give one of them")
        }
    }

    /// Returns the path of the control socket.
    ///
    /// - Throws: ``ControlFailure`` if the configuration cannot be read or names no control socket.
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

/// The failure of a command that controls a running host.
struct ControlFailure: Error {
    var exitCode: Int32
    /// Messages for standard error, one line each.
    var problems: [String]
    /// The host's error answer; `nil` if the failure is not an answer of the host.
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
            // The host does not understand this command: the two have different versions.
            case .badRequest, .unknownCommand, .tooLong: 70
            }
    }
}

extension ControlOptions {
    /// Runs `body` with the socket's path. Reports a ``ControlFailure`` on standard error and throws its exit code.
    func run(_ body: (String) async throws -> Void) async throws {
        do {
            try await body(try socketPath())
        } catch let failure as ControlFailure {
            for problem in failure.problems { StandardError.write("chanserv: \(problem)") }
            if json, let error = failure.error { try write(StatusAnswer.error(error)) }
            throw ExitCode(failure.exitCode)
        }
    }

    /// Writes an object to standard output as one line of JSON.
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
