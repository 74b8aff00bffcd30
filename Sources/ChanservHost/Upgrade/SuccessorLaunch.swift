internal import CProcess
internal import Glibc
internal import HostConfiguration
internal import PluginRuntime

/// The command that starts another process of the same host: the program at its present path, with the arguments of
/// this process.
package struct SuccessorLaunch: Sendable, Hashable {
    /// Path of the executable.
    package var program: String
    /// The arguments, beginning with the name of the program.
    package var arguments: [String]

    /// The option of `chanserv serve` that takes over.
    package static let takeOverOption = "--take-over"
    /// The option that names the descriptor for ``SuccessorReport``.
    package static let reportOption = "--report-descriptor"
    private static let reportDescriptor = 3

    /// - Parameters:
    ///   - arguments: the arguments of this process, beginning with the name of the program.
    ///   - executable: path of the executable of this process, as it was at its start. It is used if the name of the
    ///     program has no slash, because the shell has then found it in the search path. Otherwise the name is used,
    ///     which may be a symbolic link to the newest version.
    package init(arguments: [String], executable: String) {
        let name = arguments.first ?? executable
        program = name.contains("/") ? name : executable
        var own = arguments.dropFirst()
        self.arguments = [name]
        while let argument = own.popFirst() {
            switch argument {
            case Self.takeOverOption: break
            case Self.reportOption: _ = own.popFirst()
            default: self.arguments.append(argument)
            }
        }
        self.arguments += [Self.takeOverOption, Self.reportOption, "\(Self.reportDescriptor)"]
    }

    /// Starts the process. It gets the standard descriptors and the environment of this process.
    ///
    /// - Parameter variables: further variables as `NAME=value`.
    /// - Throws: ``ProcessError``.
    func start(_ variables: [String]) async throws(ProcessError) -> (child: ChildProcess, report: SuccessorReport) {
        let pipe = try DescriptorPair.pipe()
        var start = ChildProcess.Program(program, arguments)
        start.environment = Self.environment + variables
        (start.input, start.output, start.errors) = (STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO)
        start.descriptors = [pipe.far]
        do throws(ProcessError) {
            let child = try await ChildProcess.start(start)
            close(pipe.far)
            return (child, SuccessorReport(reading: pipe.near))
        } catch {
            pipe.close()
            throw error
        }
    }

    private static var environment: [String] {
        var variables: [String] = []
        guard var entry = chanserv_environment() else { return [] }
        while let variable = entry.pointee {
            variables.append(String(systemString: variable))
            entry += 1
        }
        return variables
    }
}

/// The reasons why a new process did not start, which it writes to a pipe for the process that started it.
package final class SuccessorReport: Sendable {
    /// Maximum length in bytes. It fits into the buffer of a pipe, so that the writer never waits.
    private static let limit = 32 << 10

    private let descriptor: Int32

    fileprivate init(reading descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit {
        close(descriptor)
    }

    /// Writes reasons, one line each, and closes the descriptor.
    package static func write(_ reasons: [String], to descriptor: Int32) {
        let text = reasons.map { $0 + "\n" }.joined().utf8.prefix(limit)
        let bytes = Array(text)
        // If the reader is gone, only the log has the reasons.
        _ = Glibc.write(descriptor, bytes, bytes.count)
        close(descriptor)
    }

    /// Returns the reasons. Must be called after the process has ended.
    func read() -> [String] {
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 4_096)
        while bytes.count < Self.limit {
            let count = Glibc.read(descriptor, &part, part.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            bytes += part.prefix(count)
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }
}
