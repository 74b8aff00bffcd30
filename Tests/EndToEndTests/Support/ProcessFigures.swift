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

    private func status(_ key: String) throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
        let line = try #require(text.split(separator: "\n").first { $0.hasPrefix(key) })
        return try #require(Int(line.split(whereSeparator: { " \t".contains($0) })[1]))
    }
}
