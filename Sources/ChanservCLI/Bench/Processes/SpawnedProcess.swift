import Glibc
import NIOConcurrencyHelpers

/// A program started here, in a process group of its own, so that Ctrl-C reaches only this command, which then ends the
/// program itself.
final class SpawnedProcess: Sendable {
    let id: pid_t
    /// Its standard output and standard error.
    let output: Int32
    private let hasEnded = NIOLockedValueBox(false)

    /// Starts `program` with nothing on standard input.
    init(_ program: String, _ arguments: [String]) throws(SystemError) {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0, ends.allSatisfy({ fcntl($0, F_SETFD, FD_CLOEXEC) == 0 }) else {
            throw SystemError("cannot make a pipe")
        }
        defer { close(ends[1]) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO)

        // Signals as a shell would leave them, whatever is done with them here.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        for signal in [SIGHUP, SIGINT, SIGTERM, SIGPIPE] { sigaddset(&signals, signal) }
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP))

        let strings = ([program] + arguments).map { strdup($0) }
        defer { for string in strings { free(string) } }
        var id: pid_t = 0
        let code = posix_spawn(&id, program, &actions, &attributes, strings + [nil], environ)
        guard code == 0 else {
            close(ends[0])
            throw SystemError("cannot start \(program)", code: code)
        }
        self.id = id
        output = ends[0]
    }

    /// Sends a signal, unless the process has ended: its number may be another's by then.
    func signal(_ number: Int32) {
        hasEnded.withLockedValue { hasEnded in
            if !hasEnded { _ = kill(id, number) }
        }
    }

    /// Blocks until it has ended. To be called once.
    ///
    /// - Returns: its exit code, or 128 + the signal that ended it.
    func wait() -> Int32 {
        // Looked at first and taken away then, with the lock held, so that no signal goes to another process.
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

    /// Blocks until there is a line, without its end; `nil` when there will be none.
    ///
    /// - Parameter rest: what was read beyond the last line; empty at first.
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

    deinit { close(output) }
}
