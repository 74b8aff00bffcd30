import Foundation

/// A client of a control socket that sends arbitrary text.
package final class RawControlClient: Sendable {
    package struct Failed: Error, CustomStringConvertible {
        package let description: String
        package init(_ problem: String) { description = "\(problem): \(String(cString: strerror(errno)))" }
    }

    /// Timeout of each operation, in seconds. Only a hang reaches it.
    private static let timeout = 120

    private let descriptor: Int32
    private let reader: LineReader

    package init(_ path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failed("cannot create a socket") }
        reader = LineReader(descriptor)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else {
            let error = Failed("cannot connect to \(path)")
            close(descriptor)
            throw error
        }
        var time = timeval(tv_sec: Self.timeout, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    /// Sends bytes. Stops without an error if the host has closed the connection.
    package func send(_ text: String) {
        let bytes = Array(text.utf8)
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                Foundation.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { return }
            sent += count
        }
    }

    /// Closes the sending direction.
    package func finish() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// The next line without its line feed; `nil` if the host has closed the connection.
    package func line() async throws -> String? {
        let reader = reader
        return try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Result { try reader.next() }) }
        }
    }

    /// Waits until the host has closed the connection. Reads nothing.
    package func closed() async throws {
        let descriptor = descriptor
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            Thread.detachNewThread {
                var event = pollfd(fd: descriptor, events: 0, revents: 0)
                let count = poll(&event, 1, Int32(Self.timeout) * 1_000)
                continuation.resume(
                    with: count == 1 ? .success(()) : .failure(Failed("the host has not closed the connection")))
            }
        }
    }

    /// The next line, decoded as a JSON object.
    package func object() async throws -> [String: Any] {
        guard let line = try await line() else { throw Failed("the host has closed the connection") }
        guard let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any] else {
            throw Failed("not a JSON object: \(line)")
        }
        return object
    }

    /// The error code in the next line.
    package func errorCode() async throws -> String? {
        (try await object()["error"] as? [String: Any])?["code"] as? String
    }

    /// `@unchecked Sendable`: the test reads one line after the other, so no two threads call `next` at the same time.
    private final class LineReader: @unchecked Sendable {
        private let descriptor: Int32
        private var rest: [UInt8] = []

        init(_ descriptor: Int32) { self.descriptor = descriptor }

        func next() throws -> String? {
            while true {
                if let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    defer { rest.removeSubrange(...end) }
                    return String(decoding: rest[..<end], as: UTF8.self)
                }
                var part = [UInt8](repeating: 0, count: 65_536)
                let count = recv(descriptor, &part, part.count, 0)
                if count == 0 || (count < 0 && errno == ECONNRESET) { return nil }
                guard count > 0 else { throw Failed("cannot read a line") }
                rest += part[..<count]
            }
        }
    }
}
