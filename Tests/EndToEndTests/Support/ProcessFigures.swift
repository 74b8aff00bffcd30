import Foundation
import Testing

/// Figures of a process from `/proc`.
struct ProcessFigures {
    let pid: pid_t

    init(_ pid: pid_t) {
        self.pid = pid
    }

    /// The number of open descriptors.
    var descriptors: Int {
        get throws { try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count }
    }

    /// The peak resident memory in KiB.
    var peakMemory: Int {
        get throws { try status("VmHWM:") }
    }

    /// The resident memory in KiB.
    var memory: Int {
        get throws { try status("VmRSS:") }
    }

    /// The number of threads.
    var threads: Int {
        get throws { try status("Threads:") }
    }

    /// The number of memory mappings that it shares with workers.
    var sharedMemories: Int {
        get throws {
            // `String(contentsOfFile:)` stops at the first read that returns less than a page, and this file is longer.
            let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: "/proc/\(pid)/maps"))
            let maps = String(decoding: try file.readToEnd() ?? Data(), as: UTF8.self)
            return maps.split(separator: "\n").count { $0.contains("/memfd:frames") }
        }
    }

    /// Whether one of its threads blocks all signals, as after `ruin hang`.
    var blocksSignals: Bool {
        get throws {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task").contains { thread in
                // The thread may end between the listing and the reading.
                let text = try? String(contentsOfFile: "/proc/\(pid)/task/\(thread)/status", encoding: .utf8)
                let mask = text?.split(separator: "\n").first { $0.hasPrefix("SigBlk:") }?.split(separator: "\t").last
                // KILL, STOP and the signals of the C library cannot be blocked.
                return mask.flatMap { UInt64($0, radix: 16) }.map { $0.nonzeroBitCount >= 58 } ?? false
            }
        }
    }

    /// The used processor time in hundredths of a second.
    var processorTime: Int {
        get throws {
            let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
            let fields = text[try #require(text.lastIndex(of: ")"))...].split(separator: " ")
            return try #require(Int(fields[12])) + #require(Int(fields[13]))
        }
    }

    /// The niceness of the thread with this name.
    func niceness(ofThread name: String) throws -> Int {
        for thread in try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task") {
            // The thread may end between the listing and the reading.
            guard let text = try? String(contentsOfFile: "/proc/\(pid)/task/\(thread)/stat", encoding: .utf8),
                text.contains("(\(name))")
            else { continue }
            let fields = text[try #require(text.lastIndex(of: ")"))...].split(separator: " ")
            return try #require(Int(fields[17]))
        }
        throw NoSuchThread(name: name)
    }

    private struct NoSuchThread: Error {
        let name: String
    }

    /// The names of its threads.
    var threadNames: [String] {
        get throws {
            let names = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task").compactMap { thread in
                // The thread may end between the listing and the reading.
                try? String(contentsOfFile: "/proc/\(pid)/task/\(thread)/comm", encoding: .utf8)
            }
            return names.map { $0.filter { $0 != "\n" } }.sorted()
        }
    }

    /// Its child processes, including zombies.
    var children: [Child] {
        get throws {
            try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { Int32($0) }.compactMap(Child.init)
                .filter { $0.parent == pid }
        }
    }

    /// Waits until a child fulfils `isWanted`, and returns it. The time limit of the test ends the wait.
    func child(where isWanted: (ProcessFigures) throws -> Bool) async throws -> ProcessFigures {
        while true {
            // A child may end while it is examined.
            let found = try children.map { ProcessFigures($0.pid) }.first { (try? isWanted($0)) ?? false }
            if let found { return found }
            await Task.yield()
        }
    }

    /// The counts that must not grow with the number of requests and reloads.
    struct Counts: Hashable {
        var descriptors: Int
        var threads: Int
        var children: Int
        var zombies: Int
        var sharedMemories: Int

        /// The tolerance for thread pools, which start and end threads on demand. A leak of threads exceeds it.
        private static let poolThreads = 3

        func isWithin(_ others: Counts) -> Bool {
            descriptors <= others.descriptors && threads <= others.threads + Self.poolThreads
                && children <= others.children && zombies <= others.zombies
                && sharedMemories <= others.sharedMemories
        }
    }

    var counts: Counts {
        get throws {
            let children = try children
            return Counts(
                descriptors: try descriptors, threads: try threads, children: children.count,
                zombies: children.count { $0.isZombie }, sharedMemories: try sharedMemories)
        }
    }

    /// Waits at most 30 seconds until the counts are back to `before`. Only a leak reaches the deadline.
    ///
    /// - Returns: the counts then.
    func counts(backTo before: Counts) async throws -> Counts {
        let deadline = ContinuousClock.now + .seconds(30)
        var now = try counts
        while !now.isWithin(before), ContinuousClock.now < deadline {
            await Task.yield()
            now = try counts
        }
        return now
    }

    /// A child of a process.
    struct Child: Hashable {
        let pid: pid_t
        let parent: pid_t
        /// Whether it has ended and its parent has not reaped it.
        let isZombie: Bool
        /// Its command line; empty after its end.
        let arguments: [String]

        /// Returns `nil` if there is no such process.
        init?(_ pid: pid_t) {
            // The process may end between the listing and the reading.
            guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
                let name = text.lastIndex(of: ")")
            else { return nil }
            let fields = text[name...].split(separator: " ")
            guard fields.count > 2, let parent = pid_t(fields[2]) else { return nil }
            self.pid = pid
            self.parent = parent
            isZombie = fields[1] == "Z"
            let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
            arguments = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        }
    }

    private func status(_ key: String) throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
        let line = try #require(text.split(separator: "\n").first { $0.hasPrefix(key) })
        return try #require(Int(line.split(whereSeparator: { " \t".contains($0) })[1]))
    }
}
