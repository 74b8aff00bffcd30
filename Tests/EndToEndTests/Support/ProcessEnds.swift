import CProcess
import Foundation
import Testing

/// Processes of others, held so that their end is noticed and no number can become another's meanwhile.
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

    /// Waits until all have ended; only what never ends meets the deadline.
    ///
    /// - Returns: those that have not; they are ended now.
    func left() async -> [pid_t] {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread { [self] in
                let deadline = Date(timeIntervalSinceNow: 30)
                let left = held.filter { _, descriptor in
                    var wanted = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                    let patience = max(0, deadline.timeIntervalSinceNow) * 1000
                    return poll(&wanted, 1, Int32(patience)) != 1
                }
                for descriptor in left.values { _ = chanserv_pidfd_send_signal(descriptor, SIGKILL) }
                continuation.resume(returning: left.keys.sorted())
            }
        }
    }
}

/// What a plugin has started out of its host's sight.
enum StrayProcesses {
    /// Ends what workers of a host have forked and nobody can know of.
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
