import Glibc
import NIOCore

/// Where the body of a request comes from.
enum RequestBody: Sendable, Equatable {
    case text(String)
    case file(String)
    case standardInput

    /// What one frame can carry (`docs/protocol.md` §5).
    static let sizeMax = 104_857_600

    /// The bytes. Blocks while reading.
    func read() throws -> ByteBuffer {
        switch self {
        case .text(let text):
            guard text.utf8.count <= Self.sizeMax else { throw TooLarge() }
            return ByteBuffer(string: text)
        case .standardInput:
            return try Self.read(STDIN_FILENO, name: "standard input")
        case .file(let path):
            let file = open(path, O_RDONLY | O_CLOEXEC)
            if file < 0 { throw SystemError("cannot open '\(path)'") }
            defer { close(file) }
            return try Self.read(file, name: "'\(path)'")
        }
    }

    private static func read(_ descriptor: Int32, name: String) throws -> ByteBuffer {
        var buffer = ByteBuffer()
        while true {
            let count = try buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 1 << 16) { room in
                while true {
                    let count = Glibc.read(descriptor, room.baseAddress, room.count)
                    if count >= 0 { return count }
                    if errno != EINTR { throw SystemError("cannot read \(name)") }
                }
            }
            if count == 0 { return buffer }
            if buffer.readableBytes > sizeMax { throw TooLarge() }
        }
    }

    struct TooLarge: Error, CustomStringConvertible {
        var description: String { "a request body can have at most \(RequestBody.sizeMax) bytes (100 MiB)" }
    }
}
