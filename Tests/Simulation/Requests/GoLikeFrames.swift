import Chanserv
import NIOCore

/// Reads and writes frames on a stream of a Go-like node.
///
/// `@unchecked Sendable`: see ``World``.
final class GoLikeFrames: @unchecked Sendable {
    struct Truncated: Error {}

    private let stream: any SimulatedStream
    private let world: World
    private var decoder: FrameDecoder

    init(_ stream: any SimulatedStream, _ world: World, decompresses: Bool) {
        self.stream = stream
        self.world = world
        decoder = FrameDecoder(decompresses: decompresses)
    }

    /// The next frame; `nil` at the end of file.
    func next(within nanoseconds: UInt64) async throws -> ByteBuffer? {
        let deadline = world.now + nanoseconds
        while true {
            if let frame = try decoder.next() { return frame }
            guard let bytes = try await stream.receive(deadline: deadline) else {
                try decoder.finish()
                return nil
            }
            decoder.append(bytes)
        }
    }

    func send(_ frames: [ByteBuffer], within nanoseconds: UInt64) async throws {
        var bytes = ByteBuffer()
        for frame in frames {
            bytes.writeInteger(UInt64(frame.readableBytes), endianness: .little)
            bytes.writeImmutableBuffer(frame)
        }
        try await stream.send(bytes, deadline: world.now + nanoseconds)
    }
}
