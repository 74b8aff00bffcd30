import CProcess
import Foundation
import Testing

/// A program that a test started. Collects its output. Every wait has a timeout of 120 s.
///
/// The program inherits only its three standard descriptors. Otherwise a pipe would stay open until other programs that
/// started at the same time have ended too.
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
    ///   - folder: its working directory; by default that of the tests.
    ///   - input: all bytes of its standard input; `nil` for an empty one.
    ///   - errors: receives standard error, which is then not collected.
    ///   - keepsOutput: whether to collect standard output. If `false`, the reading end of the pipe is closed at once.
    package init(
        _ program: String, _ arguments: [String], folder: String? = nil, input: Data? = nil,
        errors errorHandle: FileHandle? = nil, keepsOutput: Bool = true
    ) throws {
        let (inputPipe, outputPipe, errorPipe) = (try Self.pipe(), try Self.pipe(), try Self.pipe())
        pid = try Self.spawn(
            program, arguments, folder: folder,
            [inputPipe.reader, outputPipe.writer, errorHandle ?? errorPipe.writer])
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
                // The program may end without reading its input.
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
        #expect(!exitCode.isEnded && Foundation.kill(pid, signal) == 0, "the program has already ended")
    }

    /// Kills the program if it is still running.
    package func end() {
        if !exitCode.isEnded { _ = Foundation.kill(pid, SIGKILL) }
    }

    /// Waits for a line of standard error that contains `text`. Begins after the last line that an earlier call read.
    package func errorLine(with text: String) async throws -> String {
        try await errorLine("say '\(text)'") { $0.contains(text) }
    }

    /// Waits for a line as ``errorLine(with:)`` does, with any of several texts.
    package func errorLine(withOneOf texts: [String]) async throws -> String {
        try await errorLine("say one of \(texts)") { line in texts.contains { line.contains($0) } }
    }

    private func errorLine(
        _ action: String, where isWanted: @escaping @Sendable (String) -> Bool
    ) async throws -> String {
        let line: String? = await errors.take { collected, from in
            while let end = collected[from...].firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: collected[from..<end], as: UTF8.self)
                from = end + 1
                if isWanted(line) { return line }
            }
            return nil
        }
        guard let line else { throw await failure("did not \(action)") }
        return line
    }

    /// The standard error collected so far.
    package var errorsSoFar: String { String(decoding: errors.soFar, as: UTF8.self) }

    /// Waits for `count` lines of standard error that contain `text`, and returns all of them. Leaves the position of
    /// ``errorLine(with:)`` as it is.
    package func errorLines(with text: String, count: Int) async throws -> [String] {
        guard let lines = await errors.take({ collected, _ in Self.lines(in: collected, with: text, count: count) })
        else { throw await failure("did not say '\(text)' \(count) times") }
        return lines
    }

    /// Waits for `count` lines of standard output that contain `text`, and returns all of them.
    package func outputLines(with text: String, count: Int) async throws -> [String] {
        guard let lines = await output.take({ collected, _ in Self.lines(in: collected, with: text, count: count) })
        else { throw await failure("did not write '\(text)' \(count) times") }
        return lines
    }

    /// Waits for `count` lines of standard output that satisfy `isWanted`, and returns all of them.
    package func outputLines(
        count: Int, where isWanted: @escaping @Sendable (String) -> Bool
    ) async throws -> [String] {
        let lines = await output.take { collected, _ in
            let lines = Self.lines(in: collected, with: "", count: count)?.filter(isWanted)
            return lines.flatMap { $0.count >= count ? $0 : nil }
        }
        guard let lines else { throw await failure("did not write \(count) matching lines") }
        return lines
    }

    private static func lines(in bytes: Data, with text: String, count: Int) -> [String]? {
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
            .dropLast().filter { text.isEmpty || $0.contains(text) }
        return lines.count >= count ? lines.map(String.init) : nil
    }

    /// Waits until standard output has at least `count` bytes, and returns all of it.
    package func outputBytes(_ count: Int) async throws -> Data {
        let bytes = await output.take { collected, _ in collected.count >= count ? collected : nil }
        guard let bytes else { throw await failure("did not write \(count) bytes") }
        return bytes
    }

    /// Waits for the program to end.
    package func exit() async throws -> Exit {
        guard let code = await exitCode.whole() else { throw await failure("did not end") }
        guard let output = await output.whole(), let errors = await errors.whole() else {
            throw await failure("ended, but its output stayed open")
        }
        return Exit(
            code: Int32(String(decoding: code, as: UTF8.self))!, output: output,
            errors: String(decoding: errors, as: UTF8.self))
    }

    /// Kills the program if it is still running. Returns an error that describes its state.
    private func failure(_ problem: String) async -> Failure {
        var state = "it was still running"
        if errors.isEnded, let code = await exitCode.whole() {
            state = "it had ended with code \(String(decoding: code, as: UTF8.self))"
        }
        end()
        return Failure(
            description: "process \(pid) \(problem); \(state). Its standard error:\n"
                + String(decoding: errors.soFar, as: UTF8.self))
    }

    private static func pipe() throws -> (reader: FileHandle, writer: FileHandle) {
        var ends: [Int32] = [0, 0]
        guard chanserv_pipe(&ends) == 0 else {
            throw Failure(description: "cannot create a pipe: \(String(cString: strerror(errno)))")
        }
        let handles = ends.map { FileHandle(fileDescriptor: $0, closeOnDealloc: true) }
        return (handles[0], handles[1])
    }

    private static func spawn(
        _ program: String, _ arguments: [String], folder: String?, _ handles: [FileHandle]
    ) throws -> pid_t {
        let strings = ([program] + arguments).map { strdup($0) }
        defer { for string in strings { free(string) } }
        let descriptors = handles.map(\.fileDescriptor)
        var pid: pid_t = 0
        let code = chanserv_spawn(
            &pid, program, strings + [nil], environ, descriptors, Int32(descriptors.count), folder)
        guard code == 0 else {
            throw Failure(description: "cannot start \(program): \(String(cString: strerror(code)))")
        }
        return pid
    }
}
