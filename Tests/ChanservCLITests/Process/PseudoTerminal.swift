import Foundation

/// A pseudo-terminal.
struct PseudoTerminal {
    /// The terminal device for a program.
    let device: FileHandle
    private let screen: FileHandle

    init(columns: UInt16 = 120) throws {
        let screen = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard screen >= 0 else { throw Failed() }
        // TIOCSPTLCK and TIOCGPTN, the ioctls of unlockpt and ptsname. Swift does not import these functions.
        var isLocked: Int32 = 0
        var number: UInt32 = 0
        guard ioctl(screen, 0x4004_5431, &isLocked) == 0, ioctl(screen, 0x8004_5430, &number) == 0 else {
            throw Failed()
        }
        var size = winsize(ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
        guard ioctl(screen, UInt(TIOCSWINSZ), &size) == 0 else { throw Failed() }
        let device = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard device >= 0 else { throw Failed() }
        self.screen = FileHandle(fileDescriptor: screen, closeOnDealloc: true)
        self.device = FileHandle(fileDescriptor: device, closeOnDealloc: true)
    }

    /// Returns everything that was written, after all programs that had the device open have exited.
    func written() throws -> String {
        try device.close()
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 4_096)
        // A read at the end of a terminal fails with EIO instead of returning 0.
        while case let count = Foundation.read(screen.fileDescriptor, &part, part.count), count > 0 {
            bytes += part[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Reads until the output contains `text`, and returns it. A pause of two minutes is an error.
    func read(until text: String) async throws -> String {
        let descriptor = screen.fileDescriptor
        return try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                var bytes: [UInt8] = []
                var part = [UInt8](repeating: 0, count: 4_096)
                while true {
                    var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                    guard poll(&event, 1, 120_000) == 1,
                        case let count = Foundation.read(descriptor, &part, part.count),
                        count > 0
                    else { return continuation.resume(throwing: Failed()) }
                    bytes += part[..<count]
                    let shown = String(decoding: bytes, as: UTF8.self)
                    if shown.contains(text) { return continuation.resume(returning: shown) }
                }
            }
        }
    }

    /// Returns the lines of a text without control sequences, with each redrawn line as its own.
    static func lines(of text: String) -> [Substring] {
        text.replacing(#/\u{1B}\[[0-9]*[A-Z]/#, with: "").split(whereSeparator: { $0.isNewline || $0 == "\r" })
    }

    struct Failed: Error {}
}
