import ChanservPlugin
import Glibc

/// Makes frames of the output that a command writes into a pipe. It does not read on while the client does not read, so
/// the pipe fills and the command blocks.
struct Copy {
    /// Length in bytes at which a line is sent as more than one frame.
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

    /// Writes the complete lines.
    ///
    /// - Parameter line: the beginning of the first line; afterwards the incomplete last line.
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

    /// Waits for bytes; returns `nil` at the end of the output.
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
                // A process that has left the command's group may keep the pipe open. Its output is not read.
                if wasOver { return nil }
                try await process.readable(pipe)
            case let code:
                throw SystemError("cannot read the output of the command", code: code)
            }
        }
    }
}
