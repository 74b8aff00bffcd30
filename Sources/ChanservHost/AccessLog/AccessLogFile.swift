package import Chanserv
package import Dispatch
internal import FoundationEssentials
internal import Glibc
internal import HostConfiguration
package import Logging
internal import NIOConcurrencyHelpers

/// The reason why an access log cannot be opened.
package struct AccessLogError: Error, CustomStringConvertible {
    package var description: String
}

/// A file with one line for each request.
///
/// Lines are made and written on a queue of its own, so that a slow disk does not delay requests. The number of waiting
/// lines is bounded; further ones are lost and counted. The first failure of a write is logged, and the next success.
package final class AccessLogFile: Sendable {
    /// Default limit of the lines that wait to be written.
    package static let defaultLimit = 16_384
    /// Number of lines that one write contains at most.
    private static let batch = 512

    /// Counts of a file since it was opened.
    package struct Counts: Sendable, Hashable {
        package var written = 0
        /// Lines that were lost because a write failed or too many lines waited.
        package var lost = 0
    }

    private struct Waiting {
        var lines: [AccessLine] = []
        /// Whether a block on the queue writes lines, or is scheduled to, until there are none.
        var isBeingWritten = false
        var counts = Counts()
    }

    /// The open file. Used only on the queue.
    private struct File {
        var descriptor: Int32
        /// Whether the last write ended in the middle of a line.
        var hasTornLine = false
        /// The number of lost lines when a failure was logged; `nil` without a failure.
        var lostBefore: Int?
    }

    package let path: String
    private let format: AccessLogFormat
    private let node: String?
    private let limit: Int
    private let logger: Logger
    private let waiting = NIOLockedValueBox(Waiting())
    private let file: NIOLockedValueBox<File>
    private let queue = DispatchQueue(label: "chanserv.access-log")

    /// Opens the file, or creates it with mode 0640.
    ///
    /// - Parameters:
    ///   - node: the name of the host, which each line contains; `nil` for none.
    ///   - limit: maximum lines that wait to be written.
    ///   - logger: receives failures.
    /// - Throws: ``AccessLogError``.
    package init(
        _ path: String, format: AccessLogFormat, node: String?, limit: Int = defaultLimit, logger: Logger
    ) throws(AccessLogError) {
        self.path = path
        self.format = format
        self.node = node
        self.limit = limit
        self.logger = logger
        file = NIOLockedValueBox(File(descriptor: try Self.open(path)))
    }

    deinit {
        close(file.withLockedValue { $0.descriptor })
    }

    private static func open(_ path: String) throws(AccessLogError) -> Int32 {
        // Without O_NONBLOCK the open of a pipe waits for a reader.
        let descriptor = Glibc.open(
            path.systemString, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o640)
        guard descriptor >= 0 else {
            throw AccessLogError(description: failure(path, errno))
        }
        return descriptor
    }

    /// Returns the reason why a file could not be opened, without creating it; `nil` if there is none.
    package static func problem(with path: String) -> String? {
        let descriptor = Glibc.open(path.systemString, O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        if descriptor >= 0 {
            close(descriptor)
            return nil
        }
        let code = errno
        var status = stat()
        // A link that leads nowhere exists, although its target does not.
        guard code == ENOENT, lstat(path.systemString, &status) != 0 else { return failure(path, code) }
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        guard access((folder.isEmpty ? "/" : folder).systemString, W_OK) == 0 else { return failure(path, errno) }
        return nil
    }

    private static func failure(_ path: String, _ code: Int32) -> String {
        "cannot open the access log '\(path)': \(String(cString: strerror(code)))"
    }

    package var counts: Counts { waiting.withLockedValue { $0.counts } }

    /// Queues the line of a request. Does not block.
    package func record(_ request: RequestSummary) {
        let line = AccessLine(time: Date(), request: request, node: node)
        let isIdle = waiting.withLockedValue { waiting in
            guard waiting.lines.count < limit else {
                waiting.counts.lost += 1
                return false
            }
            waiting.lines.append(line)
            defer { waiting.isBeingWritten = true }
            return !waiting.isBeingWritten
        }
        if isIdle { queue.async { self.writeAllWaiting() } }
    }

    private static func isSameFile(_ one: Int32, _ other: Int32) -> Bool {
        var (first, second) = (stat(), stat())
        return fstat(one, &first) == 0 && fstat(other, &second) == 0 && first.st_dev == second.st_dev
            && first.st_ino == second.st_ino
    }

    /// Opens the path again, after the file was renamed by a log rotation. Lines that wait go to the new file. If the
    /// path cannot be opened, the old file stays in use.
    package func reopen() {
        queue.async { [self] in
            do throws(AccessLogError) {
                let new = try Self.open(path)
                let old = file.withLockedValue { file in
                    let isSame = Self.isSameFile(file.descriptor, new)
                    defer {
                        file = File(
                            descriptor: new, hasTornLine: isSame && file.hasTornLine, lostBefore: file.lostBefore)
                    }
                    return file.descriptor
                }
                close(old)
            } catch {
                logger.error("\(error); the previous file stays in use")
            }
        }
    }

    /// Waits until all lines that are queued now are written, at most for `time`. Blocks.
    package func flush(within time: DispatchTimeInterval) {
        let done = DispatchSemaphore(value: 0)
        queue.async {
            self.writeAllWaiting()
            done.signal()
        }
        _ = done.wait(timeout: .now() + time)
    }

    private func writeAllWaiting() {
        while true {
            let lines = waiting.withLockedValue { waiting -> [AccessLine] in
                guard !waiting.lines.isEmpty else {
                    waiting.isBeingWritten = false
                    return []
                }
                waiting.isBeingWritten = true
                defer { waiting.lines = [] }
                return waiting.lines
            }
            guard !lines.isEmpty else { return }
            for start in stride(from: 0, to: lines.count, by: Self.batch) {
                write(lines[start..<min(start + Self.batch, lines.count)])
            }
        }
    }

    private func write(_ lines: ArraySlice<AccessLine>) {
        var (descriptor, hasTornLine) = file.withLockedValue { ($0.descriptor, $0.hasTornLine) }
        var bytes: [UInt8] = hasTornLine ? [UInt8(ascii: "\n")] : []
        for line in lines { bytes += Array(line.line(in: format).utf8) + [UInt8(ascii: "\n")] }
        let (written, failure) = Self.write(bytes, to: descriptor)
        if written > 0 { hasTornLine = bytes[written - 1] != UInt8(ascii: "\n") }
        let newlines = bytes[..<written].count { $0 == UInt8(ascii: "\n") }
        // The first one may end the torn line.
        let whole = max(0, newlines - (bytes.count > 0 && bytes[0] == UInt8(ascii: "\n") ? 1 : 0))
        let lost = waiting.withLockedValue { waiting in
            waiting.counts.written += whole
            defer { waiting.counts.lost += lines.count - whole }
            return waiting.counts.lost
        }
        let before = file.withLockedValue { file in
            file.hasTornLine = hasTornLine
            defer { file.lostBefore = failure == nil ? nil : file.lostBefore ?? lost }
            return file.lostBefore
        }
        switch (failure, before) {
        case (let code?, nil):
            let reason = String(cString: strerror(code))
            logger.error("cannot write the access log '\(path)': \(reason); requests go on and their lines are lost")
        case (nil, let before?):
            logger.warning("the access log '\(path)' is written again; \(lost - before) lines were lost")
        case (nil, nil), (_?, _?): break
        }
    }

    /// Time for which a pipe that is full may delay a write, in milliseconds.
    private static let pipeTime: Int32 = 1_000

    /// Writes bytes.
    ///
    /// - Returns: the number of written bytes, and the error code if these are not all.
    private static func write(_ bytes: [UInt8], to descriptor: Int32) -> (written: Int, failure: Int32?) {
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress! + written, bytes.count - written)
            }
            if count >= 0 {
                written += count
                continue
            }
            let code = errno
            if code == EINTR { continue }
            guard code == EAGAIN else { return (written, code) }
            var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            if Glibc.poll(&poll, 1, Self.pipeTime) <= 0 { return (written, code) }
        }
        return (written, nil)
    }
}
