import CProcess
import Foundation
import Testing

/// Watches the end of processes that are not children. It holds a pidfd of each, so that no pid is reused unnoticed.
final class ProcessEnds: Sendable {
    private let held: [pid_t: Int32]

    init(_ processes: [pid_t]) throws {
        var held: [pid_t: Int32] = [:]
        for process in processes {
            let descriptor = chanserv_pidfd_open(process)
            try #require(descriptor >= 0, "process \(process) cannot be held: error \(errno)")
            held[process] = descriptor
        }
        self.held = held
    }

    deinit {
        for descriptor in held.values { close(descriptor) }
    }

    /// Waits at most 30 seconds until all processes have ended, and kills the others.
    ///
    /// - Returns: the processes that had not ended.
    func left() async -> [pid_t] {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread { [self] in
                let deadline = Date(timeIntervalSinceNow: 30)
                let left = held.filter { _, descriptor in
                    var wanted = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                    let timeout = max(0, deadline.timeIntervalSinceNow) * 1000
                    return poll(&wanted, 1, Int32(timeout)) != 1
                }
                for descriptor in left.values { _ = chanserv_pidfd_send_signal(descriptor, SIGKILL) }
                continuation.resume(returning: left.keys.sorted())
            }
        }
    }
}

/// Processes that a plugin has forked and that the host does not know.
enum StrayProcesses {
    /// Kills all processes that workers of a host have forked.
    static func end(of host: ServedHost) {
        do {
            let mark = Data("\0worker\0".utf8)
            let its = Data("\0--host\0\(host.process.pid)\0".utf8)
            for process in try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap({ Int32($0) }) {
                let arguments = FileManager.default.contents(atPath: "/proc/\(process)/cmdline") ?? Data()
                if arguments.range(of: mark) != nil, arguments.range(of: its) != nil { kill(process, SIGKILL) }
            }
        } catch {
            Issue.record("processes cannot be listed: \(error)")
        }
    }
}
