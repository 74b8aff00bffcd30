import Glibc
import HostConfiguration
import NIOCore

/// The origin of a request's body.
enum RequestBody: Sendable, Equatable {
    case text(String)
    case file(String)
    case standardInput

    /// Maximum size of a body in bytes, which is that of one frame (`docs/protocol.md` §5).
    static let sizeMax = 104_857_600

    /// Reads and returns the body. Blocks.
    ///
    /// - Throws: ``TooLarge``, ``SystemError``.
    func read() throws -> ByteBuffer {
        switch self {
        case .text(let text):
            let bytes = text.systemBytes
            guard bytes.count <= Self.sizeMax else { throw TooLarge() }
            return ByteBuffer(bytes: bytes)
        case .standardInput:
            return try Self.read(STDIN_FILENO, name: "standard input")
        case .file(let path):
            let file = open(path.systemString, O_RDONLY | O_CLOEXEC)
            if file < 0 { throw SystemError("cannot open '\(path)'") }
            defer { close(file) }
            return try Self.read(file, name: "'\(path)'")
        }
    }

    private static func read(_ descriptor: Int32, name: String) throws -> ByteBuffer {
        var buffer = ByteBuffer()
        while true {
            let count = try buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 1 << 16) { bytes in
                while true {
                    let count = Glibc.read(descriptor, bytes.baseAddress, bytes.count)
                    if count >= 0 { return count }
                    if errno == EAGAIN {
                        waitUntilReady(descriptor, POLLIN)
                    } else if errno != EINTR {
                        throw SystemError("cannot read \(name)")
                    }
                }
            }
            if count == 0 { return buffer }
            if buffer.readableBytes > sizeMax { throw TooLarge() }
        }
    }

    struct TooLarge: Error, CustomStringConvertible {
        var description: String { "the request body exceeds the limit of \(RequestBody.sizeMax) bytes (100 MiB)" }
    }
}
