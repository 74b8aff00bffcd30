import Foundation
import Testing

/// A program started by a test: what it writes is collected, every wait has a deadline, and it is ended by its id.
///
/// It inherits nothing but its three standard descriptors, so that the end of each is its end and not that of another
/// program started at the same time.
package final class ChildProcess: Sendable {
    package struct Exit: Sendable {
        /// The exit code, or 128 + the signal that ended it.
        package var code: Int32
        package var output: Data
        package var errors: String

        package var text: String { String(decoding: output, as: UTF8.self) }
        package var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() }
    }

    package struct Failure: Error, CustomStringConvertible {
        package var description: String

        package init(description: String) { self.description = description }
    }

    package let pid: pid_t
    private let output = Captured()
    private let errors = Captured()
    private let exitCode = Captured()

    /// Starts `program`.
    ///
    /// - Parameters:
    ///   - folder: where it runs; the tests' own by default.
    ///   - input: what standard input has, all at once; `nil` for none.
    ///   - errors: where standard error goes instead of being collected.
    ///   - keepsOutput: whether standard output is read; otherwise its reader is gone at once.
    package init(
        _ program: String, _ arguments: [String], folder: String? = nil, input: Data? = nil,
        errors errorHandle: FileHandle? = nil, keepsOutput: Bool = true
    ) throws {
        // A folder is changed to by a shell that the program then takes the place of.
        let command = folder.map { ["/bin/sh", "-c", #"cd "$0" && exec "$@""#, $0, program] } ?? [program]
        let (inputPipe, outputPipe, errorPipe, pid) = try Self.spawning.withLock {
            let (input, output, errors) = (try Self.pipe(), try Self.pipe(), try Self.pipe())
            let pid = try Self.spawn(
                command + arguments, input: input.reader, output: output.writer, errors: errorHandle ?? errors.writer)
            return (input, output, errors, pid)
        }
        self.pid = pid
        for handle in [inputPipe.reader, outputPipe.writer, errorPipe.writer] { try handle.close() }
        if keepsOutput {
            output.follow(outputPipe.reader)
        } else {
            try outputPipe.reader.close()
            output.end()
        }
        errors.follow(errorPipe.reader)
        Thread.detachNewThread {
            do {
                if let input { try inputPipe.writer.write(contentsOf: input) }
                try inputPipe.writer.close()
            } catch {
                // A program that does not read its input is no error.
            }
        }
        Thread.detachNewThread { [pid, exitCode] in
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
            let signal = status & 0x7F
            exitCode.append(Data("\(signal == 0 ? (status >> 8) & 0xFF : 128 + signal)".utf8))
            exitCode.end()
        }
    }

    /// Sends a signal.
    package func kill(_ signal: Int32) {
        #expect(!exitCode.isEnded && Foundation.kill(pid, signal) == 0, "the program is gone already")
    }

    /// Ends the program at once, if it is still there.
    package func end() {
        if !exitCode.isEnded { _ = Foundation.kill(pid, SIGKILL) }
    }

    /// The first line of standard error that has `text` in it, and was not passed over by an earlier call.
    package func errorLine(with text: String) async throws -> String {
        try await errorLine("say '\(text)'") { $0.contains(text) }
    }

    /// As ``errorLine(with:)``, for one of several texts.
    package func errorLine(withOneOf texts: [String]) async throws -> String {
        try await errorLine("say one of \(texts)") { line in texts.contains { line.contains($0) } }
    }

    private func errorLine(
        _ what: String, where isWanted: @escaping @Sendable (String) -> Bool
    ) async throws -> String {
        let line: String? = await errors.take { collected, from in
            while let end = collected[from...].firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: collected[from..<end], as: UTF8.self)
                from = end + 1
                if isWanted(line) { return line }
            }
            return nil
        }
        guard let line else { throw await failure("did not \(what)") }
        return line
    }

    /// What it has written to standard error so far, and was read.
    package var errorsSoFar: String { String(decoding: errors.soFar, as: UTF8.self) }

    /// All lines of standard error that have `text` in them, once there are `count`; passes over none.
    package func errorLines(with text: String, count: Int) async throws -> [String] {
        guard let lines = await errors.take({ collected, _ in Self.lines(in: collected, with: text, count: count) })
        else { throw await failure("did not say '\(text)' \(count) times") }
        return lines
    }

    /// All lines of standard output that have `text` in them, once there are `count`.
    package func outputLines(with text: String, count: Int) async throws -> [String] {
        guard let lines = await output.take({ collected, _ in Self.lines(in: collected, with: text, count: count) })
        else { throw await failure("did not write '\(text)' \(count) times") }
        return lines
    }

    /// All lines of standard output that are wanted, once there are `count`.
    package func outputLines(
        count: Int, where isWanted: @escaping @Sendable (String) -> Bool
    ) async throws -> [String] {
        let lines = await output.take { collected, _ in
            let lines = Self.lines(in: collected, with: "", count: count)?.filter(isWanted)
            return lines.flatMap { $0.count >= count ? $0 : nil }
        }
        guard let lines else { throw await failure("did not write \(count) such lines") }
        return lines
    }

    private static func lines(in bytes: Data, with text: String, count: Int) -> [String]? {
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
            .dropLast().filter { text.isEmpty || $0.contains(text) }
        return lines.count >= count ? lines.map(String.init) : nil
    }

    /// Waits for standard output to have at least `count` bytes.
    package func outputBytes(_ count: Int) async throws -> Data {
        let bytes = await output.take { collected, _ in collected.count >= count ? collected : nil }
        guard let bytes else { throw await failure("did not write \(count) bytes") }
        return bytes
    }

    /// Waits for the program to end.
    package func exit() async throws -> Exit {
        guard let code = await exitCode.whole() else { throw await failure("did not end") }
        guard let output = await output.whole(), let errors = await errors.whole() else {
            throw await failure("ended, but not its output")
        }
        return Exit(
            code: Int32(String(decoding: code, as: UTF8.self))!, output: output,
            errors: String(decoding: errors, as: UTF8.self))
    }

    /// Ends the program, where it has not ended by itself, and tells how it was.
    private func failure(_ what: String) async -> Failure {
        var fate = "it was still running"
        if errors.isEnded, let code = await exitCode.whole() {
            fate = "it had ended with \(String(decoding: code, as: UTF8.self))"
        }
        end()
        return Failure(
            description: "process \(pid) \(what), and \(fate). Its standard error:\n"
                + String(decoding: errors.soFar, as: UTF8.self))
    }

    /// Between the making of a pipe and the mark that keeps it from being inherited nothing may be started.
    private static let spawning = NSLock()

    private static func pipe() throws -> (reader: FileHandle, writer: FileHandle) {
        var ends: [Int32] = [0, 0]
        guard Foundation.pipe(&ends) == 0, ends.allSatisfy({ fcntl($0, F_SETFD, FD_CLOEXEC) == 0 }) else {
            throw Failure(description: "no pipe: error \(errno)")
        }
        let handles = ends.map { FileHandle(fileDescriptor: $0, closeOnDealloc: true) }
        return (handles[0], handles[1])
    }

    private static func highestDescriptor() throws -> Int32 {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap { Int32($0) }.max() ?? 3
    }

    private static func spawn(
        _ arguments: [String], input: FileHandle, output: FileHandle, errors: FileHandle
    ) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (number, handle) in [input, output, errors].enumerated() {
            posix_spawn_file_actions_adddup2(&actions, handle.fileDescriptor, Int32(number))
        }
        // Other descriptors of the tests are not all marked to be closed, such as those of network connections: held open
        // by a program they would keep ports in use and links alive.
        for descriptor in 3...(try highestDescriptor() + 256) {
            posix_spawn_file_actions_addclose(&actions, descriptor)
        }
        // Signals as a shell would leave them, whatever the tests do with theirs.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var defaults = sigset_t()
        sigemptyset(&defaults)
        sigaddset(&defaults, SIGPIPE)
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))

        let strings = arguments.map { strdup($0) }
        defer { for string in strings { free(string) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, arguments[0], &actions, &attributes, strings + [nil], environ)
        guard code == 0 else {
            throw Failure(description: "cannot start \(arguments[0]): \(String(cString: strerror(code)))")
        }
        return pid
    }
}
