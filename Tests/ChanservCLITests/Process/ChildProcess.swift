import Foundation
import Testing

/// A program started by a test: what it writes is collected, every wait has a deadline, and `kill(_:)` ends it by its id.
final class ChildProcess: Sendable {
    /// Far beyond what anything takes, so that only a hang meets it.
    static let patience: TimeInterval = 120

    struct Exit: Sendable {
        /// The exit code, or 128 + the signal that ended it.
        var code: Int32
        var output: Data
        var errors: String

        var text: String { String(decoding: output, as: UTF8.self) }
        var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() }
    }

    private let process: ProcessBox
    private let output = Captured()
    private let errors = Captured()
    private let exitCode = Captured()

    /// Starts `program`.
    ///
    /// - Parameters:
    ///   - input: what standard input has, all at once; `nil` for none.
    ///   - errors: where standard error goes instead of being collected.
    ///   - keepsOutput: whether standard output is read; otherwise its reader is gone at once.
    init(
        _ program: String, _ arguments: [String], folder: String? = nil, input: Data? = nil,
        errors errorHandle: FileHandle? = nil, keepsOutput: Bool = true
    ) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        if let folder { process.currentDirectoryURL = URL(fileURLWithPath: folder) }
        let outputPipe = Pipe()
        let errorPipe = Pipe()
        let inputPipe = Pipe()
        process.standardOutput = outputPipe
        if let errorHandle { process.standardError = errorHandle } else { process.standardError = errorPipe }
        process.standardInput = inputPipe
        process.terminationHandler = { [exitCode] process in
            let code = process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
            exitCode.append(Data("\(code)".utf8))
            exitCode.end()
        }
        self.process = ProcessBox(process)
        try process.run()
        if keepsOutput {
            output.follow(outputPipe.fileHandleForReading)
        } else {
            try outputPipe.fileHandleForReading.close()
            output.end()
        }
        if errorHandle == nil { errors.follow(errorPipe.fileHandleForReading) } else { errors.end() }
        let inputHandle = inputPipe.fileHandleForWriting
        Thread.detachNewThread {
            // A program that does not want its input is no error.
            if let input { try? inputHandle.write(contentsOf: input) }
            try? inputHandle.close()
        }
    }

    var pid: Int32 { process.process.processIdentifier }

    /// Sends a signal.
    func kill(_ signal: Int32) {
        #expect(Foundation.kill(pid, signal) == 0)
    }

    /// The first line of standard error that has `text` in it, and was not handed out by an earlier call.
    func errorLine(with text: String) async throws -> String {
        do {
            return try await errors.take { collected, from in
                while let end = collected[from...].firstIndex(of: UInt8(ascii: "\n")) {
                    let line = String(decoding: collected[from..<end], as: UTF8.self)
                    from = end + 1
                    if line.contains(text) { return line }
                }
                return nil
            }
        } catch {
            throw failure("did not say '\(text)'")
        }
    }

    /// Waits for standard output to have at least `count` bytes.
    func outputBytes(_ count: Int) async throws -> Data {
        do {
            return try await output.take { collected, _ in collected.count >= count ? collected : nil }
        } catch {
            throw failure("did not write \(count) bytes")
        }
    }

    /// Waits for the program to end.
    func exit() async throws -> Exit {
        do {
            let code = try await exitCode.wholeText()
            return Exit(code: Int32(code)!, output: try await output.whole(), errors: try await errors.wholeText())
        } catch {
            throw failure("did not end")
        }
    }

    private func failure(_ what: String) -> Failure {
        let isRunning = process.process.isRunning
        if isRunning { _ = Foundation.kill(pid, SIGKILL) }
        let errors = String(decoding: errors.soFar, as: UTF8.self)
        return Failure(
            description: "\(isRunning ? "" : "the program ended: ")it \(what). Its standard error:\n\(errors)")
    }

    /// Ends the program at once, if it is still there.
    func end() {
        if process.process.isRunning { _ = Foundation.kill(pid, SIGKILL) }
    }

    struct Failure: Error, CustomStringConvertible { var description: String }

    /// `Process` is not Sendable; after `run()` only its id and `isRunning` are read here, which are thread-safe.
    private struct ProcessBox: @unchecked Sendable {
        let process: Process
        init(_ process: Process) { self.process = process }
    }
}

/// Bytes that are still coming, and threads that wait for some of them.
///
/// Everything that changes is touched with `condition` locked, which is what makes it Sendable.
private final class Captured: @unchecked Sendable {
    private let condition = NSCondition()
    private var bytes = Data()
    private var isEnded = false
    private var taken = 0

    struct NeverCame: Error {}

    /// Takes all that comes from `handle` until its end.
    func follow(_ handle: FileHandle) {
        handle.readabilityHandler = { handle in
            let data = handle.availableData
            if data.isEmpty {
                handle.readabilityHandler = nil
                self.end()
            } else {
                self.append(data)
            }
        }
    }

    func append(_ data: Data) {
        condition.withLock { bytes.append(data) }
        condition.broadcast()
    }

    func end() {
        condition.withLock { isEnded = true }
        condition.broadcast()
    }

    var soFar: Data { condition.withLock { bytes } }

    /// All bytes, once they have ended.
    func whole() async throws -> Data {
        try await wait { self.isEnded ? self.bytes : nil }
    }

    func wholeText() async throws -> String {
        String(decoding: try await whole(), as: UTF8.self)
    }

    /// What `body` makes of the bytes so far and of how far they were taken; asked again as long as it answers `nil`.
    func take<T: Sendable>(_ body: @escaping @Sendable (Data, inout Int) -> T?) async throws -> T {
        try await wait { body(self.bytes, &self.taken) }
    }

    private func wait<T: Sendable>(_ body: @escaping @Sendable () -> T?) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                let deadline = Date(timeIntervalSinceNow: ChildProcess.patience)
                self.condition.lock()
                defer { self.condition.unlock() }
                while true {
                    if let value = body() { return continuation.resume(returning: value) }
                    guard !self.isEnded, self.condition.wait(until: deadline) else {
                        return continuation.resume(throwing: NeverCame())
                    }
                }
            }
        }
    }
}
