import CZlib
import Foundation
import Synchronization
import Testing

/// A log that rotates by renaming, by copytruncate and with compression, while several sources follow it.
///
/// `CHANSERV_TEST_ROTATION_SECONDS` and `CHANSERV_TEST_ROTATION_INTERVAL` (milliseconds between rotations) set the
/// duration. The default takes a few seconds; the long run is 1800 seconds at 100 ms.
@Suite struct FilesStressTests {
    static func number(_ variable: String, default value: Int) -> Int {
        ProcessInfo.processInfo.environment[variable].flatMap(Int.init) ?? value
    }

    /// The number of lines that were written, and whether that is all.
    struct Progress: Sendable {
        var lines = 0
        var isComplete = false
        /// The last rotations, for the message of a failure.
        var rotations: [String] = []
    }

    /// Writes numbered lines of different lengths, and rotates.
    final class Writer: Sendable {
        let folder: Folder
        let progress = Mutex(Progress())
        let rotationsKept = 20
        /// Signalled by each reader when it follows the file.
        let following = DispatchSemaphore(value: 0)

        init(_ folder: Folder) { self.folder = folder }

        /// Begins when `readers` readers follow the file, so that they get it from the first line on.
        func run(for seconds: Int, every milliseconds: Int, readers: Int) throws {
            for _ in 0..<readers {
                guard following.wait(timeout: .now() + 60) == .success else { throw Failure("a reader does not begin") }
            }
            let path = folder.file("app.log")
            func open() -> Int32 { Foundation.open(path, O_CREAT | O_APPEND | O_WRONLY, 0o644) }
            var file = open()
            defer { close(file) }
            var generator = SystemRandomNumberGenerator()
            let end = Date(timeIntervalSinceNow: Double(seconds))
            var number = 0
            while Date() < end {
                for _ in 0..<Int.random(in: 0..<200, using: &generator) {
                    let filler = String(repeating: "x", count: Int.random(in: 0..<150, using: &generator))
                    // Some lines are written in two parts.
                    let line = Array("line \(number) \(filler)\n".utf8)
                    let half = number % 10 == 0 ? line.count / 2 : line.count
                    guard write(file, Array(line[..<half]), half) == half,
                        write(file, Array(line[half...]), line.count - half) == line.count - half
                    else { throw Failure("write: \(errno)") }
                    number += 1
                }
                progress.withLock { $0.lines = number }
                usleep(UInt32(milliseconds * 1000))
                for old in (1...rotationsKept).reversed() {
                    for suffix in ["", ".gz"] {
                        rename("\(path).\(old)\(suffix)", "\(path).\(old + 1)\(suffix)")
                    }
                }
                for suffix in ["", ".gz"] { unlink("\(path).\(rotationsKept + 1)\(suffix)") }
                let kind = Int.random(in: 0..<3, using: &generator)
                progress.withLock {
                    $0.rotations =
                        $0.rotations.suffix(49) + ["\(["copytruncate", "compress", "rename"][kind]) at \(number)"]
                }
                switch kind {
                case 0:  // copytruncate: what is written between the two steps is lost, so nothing is written
                    try Data(contentsOf: URL(filePath: path)).write(to: URL(filePath: "\(path).1"))
                    truncate(path, 0)
                default:
                    rename(path, "\(path).1")
                    close(file)
                    file = open()
                    if kind == 1 { try compress("app.log.1", in: folder) }
                }
            }
            // The last line comes after the flag, so that a reader that waits is woken with the flag set.
            progress.withLock { ($0.lines, $0.isComplete) = (number + 1, true) }
            let last = Array("line \(number) is the last one\n".utf8)
            guard write(file, last, last.count) == last.count else { throw Failure("write: \(errno)") }
        }
    }

    /// Reads until all lines have come. Throws at the first line that is lost, doubled or torn.
    struct Reader {
        let instance: Instance
        let writer: Writer
        var number = 0
        var session = 0

        /// - Parameter time: the time after which the request is cancelled and resumed.
        mutating func run(session time: Double?) throws -> Int {
            var resume: [String: Any]?
            while true {
                session += 1
                var options: [String: Any] = [:]
                if let resume { options["resume"] = [resume] }
                let line = try String(decoding: JSONSerialization.data(withJSONObject: options), as: UTF8.self)
                let source = try #require(try instance.sources("\(line)\napp.log").first)
                if session == 1 { writer.following.signal() }
                var header = try #require(
                    try JSONSerialization.jsonObject(with: Data(source.header)) as? [String: Any])
                let bytes = try read(source, until: time.map { Date(timeIntervalSinceNow: $0) } ?? .distantFuture)
                guard let bytes else { return session }
                header["offset"] = try #require(header["offset"] as? Int) + bytes
                resume = header
            }
        }

        /// Returns the number of bytes that were read; `nil` if all lines have come.
        private mutating func read(_ source: Stream, until end: Date) throws -> Int? {
            var bytes = 0
            while true {
                let answer = source.poll(Room(frames: 500))
                for frame in answer.items {
                    bytes += frame.count
                    guard String(decoding: frame, as: UTF8.self).hasPrefix("line \(number) "), frame.last == 10 else {
                        throw Failure(
                            "session \(session): line \(number) was expected, not "
                                + "\(String(decoding: frame.prefix(20), as: UTF8.self)); log: \(instance.host.log); "
                                + "\(writer.progress.withLock { $0.rotations })")
                    }
                    number += 1
                }
                guard answer.status == ready || answer.status == pending else { throw Failure(answer.message) }
                let progress = writer.progress.withLock { $0 }
                if progress.isComplete && number == progress.lines { return nil }
                if Date() > end && !progress.isComplete { return bytes }
                if answer.status == pending { try source.wakeSignal.wait() }
            }
        }
    }

    @Test func `no line is lost, doubled or torn by rotations`() async throws {
        let seconds = Self.number("CHANSERV_TEST_ROTATION_SECONDS", default: 4)
        let interval = Self.number("CHANSERV_TEST_ROTATION_INTERVAL", default: 10)
        let folder = try Folder()
        try folder.write("app.log")
        let writer = Writer(folder)
        let instance = try await onThread { try folder.instance(["follow": .boolean(true)]) }
        let session = interval < 100 ? 0.2 : 5
        let readers = 5
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<readers {
                group.addTask {
                    try await onThread {
                        var reader = Reader(instance: instance, writer: writer)
                        let sessions = try reader.run(session: number == 4 ? session : nil)
                        #expect(number < 4 || seconds < 4 || sessions > 1)
                    }
                }
            }
            group.addTask { try await onThread { try writer.run(for: seconds, every: interval, readers: readers) } }
            try await group.waitForAll()
        }
        #expect(!instance.host.log.contains { $0.contains("missing") }, "\(instance.host.log)")
    }
}

/// Compresses a file like gzip: the file is removed afterwards.
func compress(_ name: String, in folder: Folder) throws {
    let content = try Data(contentsOf: URL(filePath: folder.file(name)))
    try gzip(name + ".gz", [UInt8](content), in: folder)
    unlink(folder.file(name))
}

func gzip(_ name: String, _ content: [UInt8], in folder: Folder) throws {
    guard let file = gzopen(folder.file(name), "wb1") else { throw Failure("gzopen") }
    guard content.isEmpty || gzwrite(file, content, UInt32(content.count)) == content.count, gzclose(file) == Z_OK
    else { throw Failure("gzwrite") }
}
