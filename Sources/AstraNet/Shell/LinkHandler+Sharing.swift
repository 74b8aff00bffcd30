internal import NIOCore

/// Bytes that do not go through the connection: the one end of a link puts them into memory that both have, and the other takes
/// them out (``SharedMemory``).
///
/// A node that can take bytes there says READS. Then SHARED comes in place of DATA, with the place of the bytes, and in the same
/// order; TAKEN tells how many SHARED were read, so that their places can be used anew. No other nodes know these ops than the two of
/// such a link.
extension LinkHandler {
    /// Fewer bytes than that are as quick through the connection: 4 KiB.
    private static let worthSharing = 4_096

    /// The peer is there: it may share its bytes.
    func askForSharing() {
        guard link.memory?.use == .reads else { return }
        link.sendControl { $0.writeOp(self.header(.reads)) }
    }

    /// Takes the ops that are about shared memory.
    func takeSharing(_ op: Op) {
        guard let memory = link.memory else { return }
        switch (op.header.command, memory.use) {
        case (.reads, .writes):
            if space == nil { space = RingSpace(size: memory.size) }
        case (.taken, .writes):
            guard let count = op.payload.number, space?.giveBack(Int(count)) == true else {
                return close(AstraNetError(.protocolViolation, "the peer has taken more than was shared"))
            }
        case (.shared, .reads):
            guard let place = SharedPlace(op.payload) else {
                return close(AstraNetError(.protocolViolation, "the peer does not say what it shares"))
            }
            takenPlaces += 1
            takenBytes += place.count
            // None of these can have been told of yet, so that they are all there at once: whoever names places twice would have
            // this loop copy for as long as streams have room, for a few bytes on the connection.
            guard takenBytes <= memory.size else {
                return close(AstraNetError(.protocolViolation, "the peer shares more than there is room for"))
            }
            let header = OpHeader(.data, to: op.header.destination, from: op.header.source)
            takeStreamOp(Op(header: header), shared: (place, memory))
        default: break
        }
    }

    /// Takes out bytes that a stream has room for.
    ///
    /// - Throws: ``AstraNetError`` where there are no such bytes.
    static func read(_ place: SharedPlace, of memory: SharedMemory) throws(AstraNetError) -> ByteBuffer {
        var bytes = ByteBufferAllocator().buffer(capacity: place.count)
        var isThere = false
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: place.count) { target in
            let room = UnsafeMutableRawBufferPointer(start: target.baseAddress, count: place.count)
            isThere = memory.read(at: place.offset, into: room)
            return isThere ? place.count : 0
        }
        guard isThere else { throw AstraNetError(.protocolViolation, "the peer shares what is not there") }
        return bytes
    }

    /// Tells how many places were read since it was told last, at the latest a millisecond later: credit leaves about as often.
    func tellTaken() {
        guard takenPlaces > 0 else { return }
        let count = takenPlaces
        takenPlaces = 0
        takenBytes = 0
        link.sendControlPatiently { $0.writeOp(self.header(.taken), number: count) }
    }

    /// Shares `bytes` with the peer.
    ///
    /// - Returns: where they are; `nil` where they must be sent.
    func share(_ bytes: ByteBuffer) -> SharedPlace? {
        let count = bytes.readableBytes
        guard count >= Self.worthSharing, let memory = link.memory, let offset = space?.take(count) else { return nil }
        bytes.withUnsafeReadableBytes { memory.write($0, at: offset) }
        return SharedPlace(offset: offset, count: count)
    }
}

/// Where shared bytes are: the payload of SHARED.
struct SharedPlace: Hashable {
    /// From the beginning of what is shared.
    var offset: Int
    /// From 1 to ``Op/largePayload``.
    var count: Int

    /// In bytes: u32 offset, u32 count.
    static let size = 8

    init(offset: Int, count: Int) {
        self.offset = offset
        self.count = count
    }

    /// `nil` where `payload` is something else, or too much.
    init?(_ payload: ByteBuffer) {
        var payload = payload
        guard payload.readableBytes == Self.size, let offset = payload.readInteger(as: UInt32.self),
            let count = payload.readInteger(as: UInt32.self), (1...Op.largePayload).contains(Int(count))
        else { return nil }
        self.init(offset: Int(offset), count: Int(count))
    }
}

extension ByteBuffer {
    /// Appends a SHARED.
    mutating func writeOp(_ header: OpHeader, _ place: SharedPlace) {
        writeOpHeader(header, payloadLength: SharedPlace.size)
        writeInteger(UInt32(place.offset))
        writeInteger(UInt32(place.count))
    }
}
