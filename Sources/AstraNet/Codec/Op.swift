public import NIOCore

/// The fixed part of an op: 29 bytes, big-endian (`docs/protocol.md` §1).
public struct OpHeader: Hashable, Sendable {
    /// What it asks for.
    public var command: Command
    /// Whom it is for; host 0 is whoever is at the other end of the link.
    public var destination: Address
    /// Whom it is from.
    public var source: Address

    public init(_ command: Command, to destination: Address, from source: Address) {
        self.command = command
        self.destination = destination
        self.source = source
    }

    /// How many bytes it takes on the wire, the payload's length included.
    static let size = 29

    /// Writes the 29 bytes that precede a payload of `payloadLength` bytes to the front of `bytes`.
    @inline(__always)
    fileprivate func encode(into bytes: UnsafeMutableRawBufferPointer, payloadLength: Int) {
        // In one go: writing six integers one by one costs several times what it takes.
        bytes[0] = command.rawValue
        bytes.storeBytes(of: destination.host.rawValue.bigEndian, toByteOffset: 1, as: UInt64.self)
        bytes.storeBytes(of: source.host.rawValue.bigEndian, toByteOffset: 9, as: UInt64.self)
        bytes.storeBytes(of: destination.port.bigEndian, toByteOffset: 17, as: UInt32.self)
        bytes.storeBytes(of: source.port.bigEndian, toByteOffset: 21, as: UInt32.self)
        bytes.storeBytes(of: UInt32(payloadLength).bigEndian, toByteOffset: 25, as: UInt32.self)
    }
}

/// One op: the unit in which a link carries everything.
public struct Op: Hashable, Sendable {
    public var header: OpHeader
    /// At most ``maximumPayload`` bytes.
    public var payload: ByteBuffer

    public init(header: OpHeader, payload: ByteBuffer = ByteBuffer()) {
        self.header = header
        self.payload = payload
    }

    /// The largest payload a node may send to one that has not said otherwise: Go nodes read through a buffer of this
    /// size, and a larger op would break the link (`docs/protocol.md` §1).
    public static let maximumPayload = 65_536

    /// The largest payload that this library takes from a node that knows so.
    static let largePayload = 262_144
}

extension ByteBuffer {
    /// Appends the 29 bytes that precede a payload of `payloadLength` bytes.
    mutating func writeOpHeader(_ header: OpHeader, payloadLength: Int) {
        writeWithUnsafeMutableBytes(minimumWritableBytes: OpHeader.size) { bytes in
            header.encode(into: bytes, payloadLength: payloadLength)
            return OpHeader.size
        }
    }

    /// Appends an op with a copy of its payload. In one step, which costs half of what header and payload cost one by one.
    mutating func writeOp(_ header: OpHeader, copying payload: borrowing ByteBuffer) {
        payload.withUnsafeReadableBytes { payload in
            let size = OpHeader.size + payload.count
            _ = writeWithUnsafeMutableBytes(minimumWritableBytes: size) { bytes in
                header.encode(into: bytes, payloadLength: payload.count)
                UnsafeMutableRawBufferPointer(rebasing: bytes[OpHeader.size...]).copyMemory(from: payload)
                return size
            }
        }
    }

    /// Appends two ops that have no payload.
    mutating func writeOps(_ first: OpHeader, _ second: OpHeader) {
        writeWithUnsafeMutableBytes(minimumWritableBytes: 2 * OpHeader.size) { bytes in
            first.encode(into: bytes, payloadLength: 0)
            second.encode(into: UnsafeMutableRawBufferPointer(rebasing: bytes[OpHeader.size...]), payloadLength: 0)
            return 2 * OpHeader.size
        }
    }

    /// Appends an op that has no payload.
    mutating func writeOp(_ header: OpHeader) {
        writeOpHeader(header, payloadLength: 0)
    }

    /// Appends an op whose payload is one number, as REWIND and WND_SIZE have it.
    package mutating func writeOp(_ header: OpHeader, number: UInt32) {
        writeOpHeader(header, payloadLength: 4)
        writeInteger(number)
    }

    /// Appends an op whose payload is text, cut at ``Op/maximumPayload`` bytes.
    mutating func writeOp(_ header: OpHeader, text: String) {
        let bytes = text.utf8.prefix(Op.maximumPayload)
        writeOpHeader(header, payloadLength: bytes.count)
        writeBytes(bytes)
    }

    /// Appends a whole op.
    mutating func writeOp(_ op: Op) {
        writeOpHeader(op.header, payloadLength: op.payload.readableBytes)
        writeImmutableBuffer(op.payload)
    }

    /// Appends an op whose payload is a dial block, which is known to fit.
    ///
    /// - Returns: how many bytes the op takes.
    @discardableResult
    mutating func writeOp(_ header: OpHeader, _ block: DialBlock) -> Int {
        let length = block.encodedSize
        return writeWithUnsafeMutableBytes(minimumWritableBytes: OpHeader.size + length) { bytes in
            header.encode(into: bytes, payloadLength: length)
            block.encode(into: UnsafeMutableRawBufferPointer(rebasing: bytes[OpHeader.size...]))
            return OpHeader.size + length
        }
    }

    /// Appends ERR with a message, then FIN1 and FIN2: a Go peer does not end a read at ERR.
    mutating func writeFailure(_ message: String, to remote: Address, from local: Address) {
        writeOp(OpHeader(.err, to: remote, from: local), text: message)
        writeOp(OpHeader(.fin1, to: remote, from: local))
        writeOp(OpHeader(.fin2, to: remote, from: local))
    }

    /// Appends RST: `host` is lost to `peer`.
    mutating func writeReset(of host: HostID, to peer: HostID) {
        writeOp(OpHeader(.rst, to: Address(host: peer, port: 0), from: Address(host: host, port: 0)))
    }

    /// Appends SERVICE or NO_SERVICE.
    mutating func writeService(_ command: Command, _ name: String, at address: Address, to host: HostID = .peer) {
        writeOp(OpHeader(command, to: Address(host: host, port: 0), from: address), text: name)
    }

    /// The number that is the payload of REWIND, WND_SIZE or TAKEN; `nil` if the payload is something else.
    var number: UInt32? { readableBytes == 4 ? getInteger(at: readerIndex) : nil }

    /// The first `length` bytes, or all if there are fewer.
    func prefix(_ length: Int) -> ByteBuffer {
        getSlice(at: readerIndex, length: min(length, readableBytes))!
    }

    /// How many bytes are missing of the op at the front, as far as can be told: of its header while that is not all there.
    ///
    /// - Throws: as ``readOp(maximumPayload:)``.
    func missingOfOp(maximumPayload: Int) throws(AstraNetError) -> Int {
        guard let length = getInteger(at: readerIndex + OpHeader.size - 4, as: UInt32.self) else {
            return OpHeader.size - readableBytes
        }
        guard length <= maximumPayload else {
            throw AstraNetError.opTooLarge(
                Command(rawValue: getInteger(at: readerIndex) ?? 0), length, maximum: maximumPayload)
        }
        return max(0, OpHeader.size + Int(length) - readableBytes)
    }

    /// Takes one whole op off the front; `nil`, and nothing taken, while it is not all there.
    ///
    /// - Throws: ``AstraNetError`` with code `protocolViolation` where the length is beyond `maximumPayload`, as soon as
    ///   the header is there.
    package mutating func readOp(maximumPayload: Int = Op.maximumPayload) throws(AstraNetError) -> Op? {
        guard readableBytes >= OpHeader.size else { return nil }
        let (command, destinationHost, sourceHost, destinationPort, sourcePort, length) = withUnsafeReadableBytes {
            bytes in
            (
                bytes[0], UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 1, as: UInt64.self)),
                UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 9, as: UInt64.self)),
                UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 17, as: UInt32.self)),
                UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 21, as: UInt32.self)),
                UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 25, as: UInt32.self))
            )
        }
        guard length <= maximumPayload else {
            throw AstraNetError.opTooLarge(Command(rawValue: command), length, maximum: maximumPayload)
        }
        guard let payload = getSlice(at: readerIndex + OpHeader.size, length: Int(length)) else { return nil }
        moveReaderIndex(forwardBy: OpHeader.size + Int(length))
        return Op(
            header: OpHeader(
                Command(rawValue: command),
                to: Address(host: HostID(rawValue: destinationHost), port: destinationPort),
                from: Address(host: HostID(rawValue: sourceHost), port: sourcePort)),
            payload: payload)
    }
}

extension AstraNetError {
    @inline(never)
    fileprivate static func opTooLarge(_ command: Command, _ length: UInt32, maximum: Int) -> AstraNetError {
        AstraNetError(
            .protocolViolation, "\(command) op of \(length) payload bytes, at most \(maximum) are allowed")
    }
}
