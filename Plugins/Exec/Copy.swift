import ChanservPlugin
import Glibc

/// Copies the output of a command from a pipe into frames. It stops reading while the client does not read: the pipe
/// then fills and the command blocks.
struct Copy {
    /// The size at which an incomplete line is sent as a frame, in bytes.
    private static let lineMax = 1 << 20
    private static let readSize = 65_536

    private let pipe: Descriptor
    private let process: RunningProcess
    private let unit: Options.Unit

    init(from pipe: Descriptor, of process: RunningProcess, in unit: Options.Unit) {
        self.pipe = pipe
        self.process = process
        self.unit = unit
    }

    func run(to frames: FrameWriter) async throws {
        var buffer = [UInt8](repeating: 0, count: Self.readSize)
        var line: [UInt8] = []
        while let count = try await read(into: &buffer) {
            switch unit {
            case .chunks: try await frames.write(buffer[..<count])
            case .lines: try await write(buffer[..<count], after: &line, to: frames)
            }
        }
        if !line.isEmpty { try await frames.write(line) }
    }

    /// Writes the complete lines, one frame each.
    ///
    /// - Parameter line: The beginning of the first line, from the read before. On return: the incomplete last line.
    private func write(_ bytes: ArraySlice<UInt8>, after line: inout [UInt8], to frames: FrameWriter) async throws {
        var rest = bytes
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            if line.isEmpty {
                try await frames.write(rest[...end])
            } else {
                line += rest[...end]
                try await frames.write(line)
                line = []
            }
            rest = rest[(end + 1)...]
        }
        line += rest
        if line.count >= Self.lineMax {
            try await frames.write(line)
            line = []
        }
    }

    /// Waits for bytes and returns their number; `nil` at the end of the output.
    private func read(into buffer: inout [UInt8]) async throws -> Int? {
        while true {
            let wasOver = process.isOver
            let count = Glibc.read(pipe.number, &buffer, buffer.count)
            if count > 0 { return count }
            if count == 0 { return nil }
            switch errno {
            case EINTR:
                continue
            case EAGAIN:
                // A process that left the group may keep the pipe open. The output ends with the command anyway.
                if wasOver { return nil }
                try await process.readable(pipe)
            case let code:
                throw SystemError("cannot read the output of the command", code: code)
            }
        }
    }
}
