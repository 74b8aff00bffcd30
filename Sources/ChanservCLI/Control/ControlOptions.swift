import ArgumentParser
import ChanservHost
import Glibc
import HostConfiguration

/// Options of the commands that control a running host.
struct ControlOptions: ParsableArguments {
    @Option(
        name: [.customShort("c"), .long],
        help: ArgumentHelp(
            """
            The host's configuration file; 'node.control' in it names the control socket. \
            (default: \(HostConfiguration.defaultFile))
            """, valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("The host's control socket. Replaces --config.", valueName: "path"))
    var socket: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            """
            Time limit for the answer of the host, such as 5s; with --watch, for each answer. (default: 5s; none for \
            'reload', 'drain' and 'upgrade')
            """, valueName: "duration"),
        transform: timeLimit)
    var timeout: Duration?

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
            throw ControlFailure(
                exitCode: 65,
                error.errors.map(\.description) + [
                    "nothing was asked of the host; give its control socket with --socket"
                ])
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
    /// Whether no process answers at the socket.
    var isNoHost = false

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
            case .unknownRequest, .noProbation: 1
            case .busy, .forbidden, .stopping, .timeout, .reloading, .refused: 69
            // The host does not understand this command: the two have different versions.
            case .badRequest, .unknownCommand, .tooLong: 70
            }
    }
}

extension ControlOptions {
    /// The time limit for an answer to a request that the host answers at once.
    private static let defaultTimeout = Duration.seconds(5)

    /// Sends `request` and calls `onProgress` with each progress line. Returns the result.
    ///
    /// - Throws: as ``ControlClient/ask(_:at:as:within:_:)``.
    func ask<Progress: Codable & Sendable, Result: Codable & Sendable>(
        _ request: ControlRequest, at path: String,
        as answer: ControlAnswer<Progress, Result>.Type = ControlAnswer<Progress, Result>.self,
        _ onProgress: (Progress) async throws -> Void = { _ in }
    ) async throws -> Result {
        let limit: ControlClient.Limit =
            switch request {
            case .reload, .drain, .upgrade: timeout.map { .total($0) } ?? .none
            case .status(let interval), .requests(_, let interval), .links(let interval):
                .eachAnswer(timeout ?? Self.defaultTimeout, interval: interval ?? .zero)
            case .cancel, .enable, .rollback, .promote, .listeners, .handOver:
                .eachAnswer(timeout ?? Self.defaultTimeout)
            }
        return try await ControlClient.ask(request, at: path, as: answer, within: limit, onProgress)
    }

    /// Runs `body` with the socket's path. Reports a ``ControlFailure`` on standard error and throws its exit code.
    func run(_ body: (String) async throws -> Void) async throws {
        do {
            try await body(try socketPath())
        } catch let failure as ControlFailure {
            for problem in failure.problems {
                let hint = "; if node.control was changed after the start, give the old path with --socket"
                StandardError.report(problem + (failure.isNoHost && socket == nil ? hint : ""))
            }
            if json, let error = failure.error { try write(StatusAnswer.error(error)) }
            throw ExitCode(failure.exitCode)
        }
    }

    /// Writes an object to standard output as one line of JSON.
    func write(_ value: some Encodable) throws {
        try StandardOutput.write(bytes: ControlJSON.line(value))
    }

    /// Writes text to standard output.
    func write(text: String) throws {
        try StandardOutput.write(text)
    }
}
