import Foundation
import Testing

/// What the system says about a process.
struct ProcessFigures {
    let pid: pid_t

    init(_ pid: pid_t) {
        self.pid = pid
    }

    /// How many descriptors it has open.
    var descriptors: Int {
        get throws { try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count }
    }

    /// The most memory it ever had, in KiB.
    var peakMemory: Int {
        get throws { try status("VmHWM:") }
    }

    /// The memory it has, in KiB.
    var memory: Int {
        get throws { try status("VmRSS:") }
    }

    /// How many threads it has.
    var threads: Int {
        get throws { try status("Threads:") }
    }

    /// How many pieces of memory it shares with processes of plugins.
    var sharedMemories: Int {
        get throws {
            // `String(contentsOfFile:)` ends at the first read that returns less than a page, and this file is longer.
            let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: "/proc/\(pid)/maps"))
            let maps = String(decoding: try file.readToEnd() ?? Data(), as: UTF8.self)
            return maps.split(separator: "\n").count { $0.contains("/memfd:frames") }
        }
    }

    /// Whether one of its threads lets no signal come, as what hangs after `ruin hang` does.
    var blocksSignals: Bool {
        get throws {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task").contains { thread in
                // It may have ended between the listing and the reading.
                let text = try? String(contentsOfFile: "/proc/\(pid)/task/\(thread)/status", encoding: .utf8)
                let mask = text?.split(separator: "\n").first { $0.hasPrefix("SigBlk:") }?.split(separator: "\t").last
                // Those that the C library keeps for itself, KILL and STOP cannot be blocked.
                return mask.flatMap { UInt64($0, radix: 16) }.map { $0.nonzeroBitCount >= 58 } ?? false
            }
        }
    }

    /// The processor time it has used, in hundredths of a second.
    var processorTime: Int {
        get throws {
            let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
            let fields = text[try #require(text.lastIndex(of: ")"))...].split(separator: " ")
            return try #require(Int(fields[12])) + #require(Int(fields[13]))
        }
    }

    /// How nice the thread with that name is.
    func niceness(ofThread name: String) throws -> Int {
        for thread in try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task") {
            // It may have ended between the listing and the reading.
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

    /// What its threads are called.
    var threadNames: [String] {
        get throws {
            let names = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task").compactMap { thread in
                // It may have ended between the listing and the reading.
                try? String(contentsOfFile: "/proc/\(pid)/task/\(thread)/comm", encoding: .utf8)
            }
            return names.map { $0.filter { $0 != "\n" } }.sorted()
        }
    }

    /// The processes that it has started and not taken away yet, those that have ended among them.
    var children: [Child] {
        get throws {
            try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { Int32($0) }.compactMap(Child.init)
                .filter { $0.parent == pid }
        }
    }

    /// Waits for a process that it has started to be as wanted; a test's time limit is the deadline.
    func child(where isWanted: (ProcessFigures) throws -> Bool) async throws -> ProcessFigures {
        while true {
            // It may end while it is looked at.
            let found = try children.map { ProcessFigures($0.pid) }.first { (try? isWanted($0)) ?? false }
            if let found { return found }
            await Task.yield()
        }
    }

    /// What must not grow, however much has been done.
    struct Counts: Hashable {
        var descriptors: Int
        var threads: Int
        var children: Int
        var zombies: Int
        var sharedMemories: Int

        /// The threads of pools, which start and end one when it suits them. What leaks grows with all that is done, and by more.
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

    /// Waits until there is no more than `before`, for what ends does not end at once; only a leak meets the deadline.
    ///
    /// - Returns: what there is then.
    func counts(backTo before: Counts) async throws -> Counts {
        let deadline = ContinuousClock.now + .seconds(30)
        var now = try counts
        while !now.isWithin(before), ContinuousClock.now < deadline {
            await Task.yield()
            now = try counts
        }
        return now
    }

    /// A process that another started.
    struct Child: Hashable {
        let pid: pid_t
        let parent: pid_t
        /// Whether it has ended and nobody has taken that to notice.
        let isZombie: Bool
        /// Its command line; none once it has ended.
        let arguments: [String]

        /// `nil` where there is none.
        init?(_ pid: pid_t) {
            // Between the listing and the reading it may have gone.
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
