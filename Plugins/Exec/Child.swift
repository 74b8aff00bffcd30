import CProcess
import Glibc

/// A started program, in its own process group.
struct Child {
    let id: pid_t
    /// Readable after the program has ended.
    let end: Descriptor
    let output: Descriptor
    let errors: Descriptor

    init(_ invocation: Invocation) throws(SystemError) {
        let output = try Pipe.make()
        let errors = try Pipe.make()
        let input = try invocation.input.map { input throws(SystemError) in try Self.file(with: input) }
        id = try Self.spawn(invocation, input: input, output: output.writer, errors: errors.writer)
        self.output = output.reader
        self.errors = errors.reader
        let end = chanserv_pidfd_open(id)
        guard end >= 0 else {
            let error = SystemError("cannot watch a process")
            kill(-id, SIGKILL)
            var status: Int32 = 0
            while waitpid(id, &status, 0) < 0 && errno == EINTR {}
            throw error
        }
        self.end = Descriptor(end)
    }

    /// Makes a file in memory. Unlike a pipe it needs no code that writes while the program reads, and a program that
    /// does not read its input has no effect on the host.
    private static func file(with bytes: ArraySlice<UInt8>) throws(SystemError) -> Descriptor {
        let number = chanserv_memfd_create("stdin")
        guard number >= 0 else { throw SystemError("cannot make the standard input") }
        let file = Descriptor(number)
        var rest = bytes
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(number, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw SystemError("cannot write the standard input") }
            rest = rest.dropFirst(count)
        }
        // Opening the file again gives the program a descriptor that begins at the first byte and cannot write.
        let input = withExtendedLifetime(file) { open("/proc/self/fd/\(number)", O_RDONLY | O_CLOEXEC) }
        guard input >= 0 else { throw SystemError("cannot open the standard input") }
        return Descriptor(input)
    }

    private static func spawn(
        _ invocation: Invocation, input: Descriptor?, output: Descriptor, errors: Descriptor
    ) throws(SystemError) -> pid_t {
        let program = invocation.command.run.path.string
        let arguments = ([program] + invocation.arguments).map { strdup($0) }
        let environment = invocation.environment.map { strdup($0) }
        defer { for text in arguments + environment { free(text) } }
        var id: pid_t = 0
        let code = chanserv_spawn(
            &id, program, arguments + [nil], environment + [nil],
            [input?.number ?? -1, output.number, errors.number], 3, invocation.command.folder?.string ?? "/")
        guard code == 0 else { throw SystemError("cannot start \(program)", code: code) }
        return id
    }
}

/// The result of a command.
struct Exit: Sendable {
    enum How: Sendable {
        case code(Int32)
        case signal(Int32)
        /// Unknown, because other code in the process has collected the exit status.
        case unknown
    }

    let how: How
    let timedOut: Bool

    /// - Parameter status: the status of waitpid; `nil` if it is unknown.
    init(status: Int32?, timedOut: Bool) {
        let signal = status.map { $0 & 0x7F }
        how =
            switch (status, signal) {
            case (let status?, 0?): .code((status >> 8) & 0xFF)
            case (_, let signal?): .signal(signal)
            default: .unknown
            }
        self.timedOut = timedOut
    }

    var json: String {
        let member =
            switch how {
            case .code(let code): "\"exit\":\(code)"
            case .signal(let signal): "\"signal\":\(signal)"
            case .unknown: "\"exit\":null"
            }
        return "{\(member)\(timedOut ? ",\"timed_out\":true" : "")}"
    }
}
