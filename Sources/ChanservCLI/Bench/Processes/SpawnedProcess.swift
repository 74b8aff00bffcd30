import CProcess
import Glibc
import NIOConcurrencyHelpers

/// A child process.
///
/// It runs in its own process group, so that Ctrl-C reaches only this command, which then stops the child. Its
/// standard input is empty; it ends when this object is destroyed or this command exits for any reason.
final class SpawnedProcess: Sendable {
    let id: pid_t
    /// A pipe with the standard output and the standard error of the child.
    let output: Int32
    private let input: Int32
    private let hasEnded = NIOLockedValueBox(false)

    /// Starts `program` with `arguments`.
    init(_ program: String, _ arguments: [String]) throws(SystemError) {
        let input = try Pipe()
        let output = try Pipe()
        defer {
            close(input.reader)
            close(output.writer)
        }
        let strings = ([program] + arguments).map { strdup($0) }
        defer { for string in strings { free(string) } }
        var id: pid_t = 0
        let code = chanserv_spawn(
            &id, program, strings + [nil], environ, [input.reader, output.writer, output.writer], 3, nil)
        guard code == 0 else {
            close(input.writer)
            close(output.reader)
            throw SystemError("cannot start \(program)", code: code)
        }
        self.id = id
        self.input = input.writer
        self.output = output.reader
    }

    /// A pipe whose ends are closed on exec.
    private struct Pipe {
        let reader: Int32
        let writer: Int32

        init() throws(SystemError) {
            var ends: [Int32] = [0, 0]
            guard chanserv_pipe(&ends) == 0 else { throw SystemError("cannot create a pipe") }
            (reader, writer) = (ends[0], ends[1])
        }
    }

    /// Sends a signal, unless the process was reaped: another process may have its ID then.
    func signal(_ number: Int32) {
        hasEnded.withLockedValue { hasEnded in
            if !hasEnded { _ = kill(id, number) }
        }
    }

    /// Waits until the process has ended and reaps it. Blocks. Must be called once.
    ///
    /// - Returns: the exit code, or 128 + the number of the signal that ended the process.
    func wait() -> Int32 {
        // WNOWAIT waits without reaping. The reaping follows under the lock, so that `signal` cannot hit a process that
        // reuses the ID.
        var information = siginfo_t()
        while waitid(P_PID, id_t(id), &information, WEXITED | WNOWAIT) != 0 && errno == EINTR {}
        return hasEnded.withLockedValue { hasEnded in
            var status: Int32 = 0
            while waitpid(id, &status, 0) < 0 && errno == EINTR {}
            hasEnded = true
            let signal = status & 0x7F
            return signal == 0 ? (status >> 8) & 0xFF : 128 + signal
        }
    }

    /// Returns the next line of the output without its line feed; `nil` at the end of the output. Blocks.
    ///
    /// - Parameter rest: the bytes read after the last line. Empty before the first call.
    func readLine(_ rest: inout [UInt8]) -> String? {
        var part = [UInt8](repeating: 0, count: 4_096)
        while true {
            if let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                defer { rest.removeFirst(end + 1) }
                return String(decoding: rest[..<end], as: UTF8.self)
            }
            let count = read(output, &part, part.count)
            if count > 0 {
                rest += part[..<count]
            } else if count == 0 || errno != EINTR {
                defer { rest = [] }
                return rest.isEmpty ? nil : String(decoding: rest, as: UTF8.self)
            }
        }
    }

    deinit {
        close(input)
        close(output)
    }
}
