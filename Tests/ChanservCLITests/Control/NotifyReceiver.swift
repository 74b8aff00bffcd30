import Foundation

/// The notification socket of a service manager.
final class NotifyReceiver: Sendable {
    struct Failed: Error, CustomStringConvertible {
        let description: String
        init(_ problem: String) { description = "\(problem): \(String(cString: strerror(errno)))" }
    }

    /// The value for `NOTIFY_SOCKET`.
    let name: String
    private let descriptor: Int32

    /// - Parameter name: a path, or `@` followed by an abstract name.
    init(_ name: String) throws {
        self.name = name
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failed("no socket") }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(name.utf8)
        let length = MemoryLayout<sa_family_t>.size + bytes.count + (name.hasPrefix("@") ? 0 : 1)
        if name.hasPrefix("@") { bytes[0] = 0 }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(length)) }
        }
        guard result == 0 else {
            close(descriptor)
            throw Failed("cannot bind \(name)")
        }
    }

    deinit { close(descriptor) }

    /// Waits for the next message, at most two minutes.
    func next() async throws -> String {
        let descriptor = descriptor
        return try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                guard poll(&event, 1, 120_000) == 1, let message = Self.receive(descriptor) else {
                    return continuation.resume(throwing: Failed("no message"))
                }
                continuation.resume(returning: message)
            }
        }
    }

    /// Returns the next received message without waiting; `nil` if there is none.
    func waiting() -> String? { Self.receive(descriptor) }

    /// Waits until all threads of a process are stopped (SIGSTOP).
    func waitUntilStopped(_ pid: pid_t) async throws {
        for _ in 0..<1_000_000 {
            let stat = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
            // The state follows the process name, which is in parentheses and can contain any character.
            if stat.split(separator: ")").last?.hasPrefix(" T") == true { return }
            await Task.yield()
        }
        throw Failed("the process was not stopped")
    }

    static func monotonicMicroseconds() -> UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1_000
    }

    private static func receive(_ descriptor: Int32) -> String? {
        var bytes = [UInt8](repeating: 0, count: 4_096)
        let count = recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
        return count < 0 ? nil : String(decoding: bytes[..<count], as: UTF8.self)
    }
}
