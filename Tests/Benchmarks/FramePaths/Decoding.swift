import Chanserv
import NIOCore

/// Decodes small frames at a client: many frames in each received buffer, none of them split.
func decode(_ count: Int) throws {
    try decode(count, of: smallPayload.count, inPiecesOf: 65_536 / 72 * 72)
}

/// Decodes small frames; each received buffer splits one.
func decodeCut(_ count: Int) throws {
    try decode(count, of: smallPayload.count, inPiecesOf: 1_000)
}

/// Decodes frames of 1 MiB (including the length field). The client waits once for the whole rest of each.
func decodeLarge(_ count: Int) throws {
    try decode(count, of: (1 << 20) - 8, inPiecesOf: 65_536)
}

/// Reads `count` frames of `size` bytes with `for try await`, as an application does. They arrive in buffers of `piece`
/// bytes.
private func decode(_ count: Int, of size: Int, inPiecesOf piece: Int) throws {
    let thread = OneThread()
    let client = Client(multiplexer: ReplayMultiplexer(count: count, size: size, piece: piece))
    try thread.run {
        var frames = 0
        var bytes = 0
        for try await source in try await client.lookupAndPost("recording", body: ByteBuffer()) {
            for try await frame in source.frames {
                frames += 1
                bytes += frame.count
            }
        }
        try expect(frames, count, "frames decoded")
        try expect(bytes, count * size, "bytes decoded")
    }
}

/// A network with one source whose bytes are all available. Only the client's code costs instructions.
private struct ReplayMultiplexer: Multiplexer {
    let count: Int
    let size: Int
    let piece: Int

    func bind(
        _ name: String, visibleTo peer: (any Connection)?,
        onConnection: @escaping @Sendable (any Connection) -> DialAnswer
    ) throws(ConnectionError) -> any Binding {
        throw ConnectionError(.closed, "this network has no servers")
    }

    func dial(
        _ name: String, _ request: DialOptions, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Connection, isSent: Bool) {
        (ReplayConnection([], length: 0, pushing: source()), true)
    }

    func dial(
        _ name: String, receivedFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection {
        throw ConnectionError(.notFound, "this network pushes its sources")
    }

    /// An empty header, then the frames.
    private func source() -> ReplayConnection {
        var frame = ByteBuffer()
        frame.writeInteger(UInt64(size), endianness: .little)
        frame.writeRepeatingByte(0x5A, count: size)
        // The number of bytes after which a frame and a piece begin at the same place again.
        let period = frame.readableBytes * piece / greatestCommonDivisor(frame.readableBytes, piece)
        var bytes = ByteBuffer()
        for _ in 0..<min(count, period / frame.readableBytes) { bytes.writeImmutableBuffer(frame) }
        var pieces: [ByteBuffer] = []
        while let part = bytes.readSlice(length: min(piece, bytes.readableBytes)), part.readableBytes > 0 {
            // Each piece has its own storage, like the buffers that a socket fills.
            pieces.append(ByteBuffer(bytes: part.readableBytesView))
        }
        return ReplayConnection(pieces, length: count * frame.readableBytes, before: ByteBuffer(repeating: 0, count: 8))
    }

    private func greatestCommonDivisor(_ first: Int, _ second: Int) -> Int {
        second == 0 ? first : greatestCommonDivisor(second, first % second)
    }
}

/// A connection that delivers the same pieces repeatedly until `length` bytes are delivered.
///
/// `@unchecked Sendable`: one task on one thread reads it.
private final class ReplayConnection: Connection, @unchecked Sendable {
    let addresses = ConnectionAddresses(local: "here", remote: "there", network: "tape")
    private let pieces: [ByteBuffer]
    private var left: Int
    private var next = 0
    /// The unread part of the current piece.
    private var rest: ByteBuffer
    /// The pushed source that the connection delivers.
    private var pushed: ReplayConnection?

    init(
        _ pieces: [ByteBuffer], length: Int, before: ByteBuffer = ByteBuffer(), pushing pushed: ReplayConnection? = nil
    ) {
        self.pieces = pieces
        left = length
        rest = before
        self.pushed = pushed
        expectsPush = pushed != nil
    }

    let expectsPush: Bool
    var peerDescription: String { addresses.remote }
    var progress: ConnectionProgress { ConnectionProgress() }
    var isAnswered: Bool { true }
    var isOnNetworkThread: Bool { false }
    var pushWindow: Int? { nil }

    func takeEvent() -> ConnectionEvent { pushed.take().map { .pushed($0) } ?? .finished }
    func nextEvent(deadline: ContinuousClock.Instant?) async throws -> ConnectionEvent { takeEvent() }
    func takeContext() -> RequestContext { RequestContext() }
    func setDelegate(_ delegate: (any ConnectionDelegate)?) {}
    func callDelegateSoon() {}
    func runSoon(_ body: @escaping @Sendable () -> Void) { body() }
    func take() -> ReceivedBytes {
        var piece = rest
        rest = ByteBuffer()
        if piece.readableBytes == 0 {
            guard left > 0 else { return .finished }
            piece = takePiece()
        }
        return .bytes(piece)
    }
    func write(_ bytes: ByteBuffer) throws(ConnectionError) -> Bool { true }
    func waitForRoom(deadline: ContinuousClock.Instant?) async throws {}
    func opened(deadline: ContinuousClock.Instant) async throws {}
    func push() -> PushedConnection { .notGranted }
    func releaseGrant() {}

    func read(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer? {
        if case .bytes(let piece) = take() { piece } else { nil }
    }

    func read(_ count: Int, into buffer: inout ByteBuffer, deadline: ContinuousClock.Instant?) async throws -> Int {
        var came = 0
        while came < count {
            if rest.readableBytes == 0 {
                guard left > 0 else { break }
                rest = takePiece()
            }
            var part = rest.readSlice(length: min(count - came, rest.readableBytes)) ?? ByteBuffer()
            came += buffer.writeBuffer(&part)
        }
        return came
    }

    private func takePiece() -> ByteBuffer {
        let whole = pieces[next]
        next = next + 1 == pieces.count ? 0 : next + 1
        let piece = whole.readableBytes <= left ? whole : whole.getSlice(at: whole.readerIndex, length: left) ?? whole
        left -= piece.readableBytes
        return piece
    }

    func close() {}
    func fail(_ message: String) {}
    func abort(_ message: String) {}
}
