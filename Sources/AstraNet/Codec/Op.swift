public import NIOCore

/// The header of an op: 29 bytes, big-endian (`docs/protocol.md` §1).
public struct OpHeader: Hashable, Sendable {
    /// The command.
    public var command: Command
    /// The address of the receiver. Host 0 is the peer of the link.
    public var destination: Address
    /// The address of the sender.
    public var source: Address

    public init(_ command: Command, to destination: Address, from source: Address) {
        self.command = command
        self.destination = destination
        self.source = source
    }

    /// The size of the encoded header in bytes, including the payload length.
    package static let size = 29

    /// Writes the 29 header bytes for a payload of `payloadLength` bytes to the start of `bytes`.
    @inline(__always)
    fileprivate func encode(into bytes: UnsafeMutableRawBufferPointer, payloadLength: Int) {
        // One write for all six integers. Six `ByteBuffer` writes would cost several times more.
        bytes[0] = command.rawValue
        bytes.storeBytes(of: destination.host.rawValue.bigEndian, toByteOffset: 1, as: UInt64.self)
        bytes.storeBytes(of: source.host.rawValue.bigEndian, toByteOffset: 9, as: UInt64.self)
        bytes.storeBytes(of: destination.port.bigEndian, toByteOffset: 17, as: UInt32.self)
        bytes.storeBytes(of: source.port.bigEndian, toByteOffset: 21, as: UInt32.self)
        bytes.storeBytes(of: UInt32(payloadLength).bigEndian, toByteOffset: 25, as: UInt32.self)
    }
}

/// An op: one message on a link.
public struct Op: Hashable, Sendable {
    public var header: OpHeader
    /// At most ``maximumPayload`` bytes.
    public var payload: ByteBuffer

    public init(header: OpHeader, payload: ByteBuffer = ByteBuffer()) {
        self.header = header
        self.payload = payload
    }

    /// The maximum payload for nodes that have announced no other limit: 64 KiB. Go nodes read into a buffer of this
    /// size, so a larger op would break the link (`docs/protocol.md` §1).
    public static let maximumPayload = 65_536

    /// The maximum payload that nodes of this library announce: 256 KiB.
    package static let largePayload = 262_144
}

extension ByteBuffer {
    /// Appends the 29 header bytes for a payload of `payloadLength` bytes.
    package mutating func writeOpHeader(_ header: OpHeader, payloadLength: Int) {
        writeWithUnsafeMutableBytes(minimumWritableBytes: OpHeader.size) { bytes in
            header.encode(into: bytes, payloadLength: payloadLength)
            return OpHeader.size
        }
    }

    /// Appends an op with a copy of its payload. One write costs half as much as separate writes of header and payload.
    package mutating func writeOp(_ header: OpHeader, copying payload: borrowing ByteBuffer) {
        payload.withUnsafeReadableBytes { payload in
            let size = OpHeader.size + payload.count
            _ = writeWithUnsafeMutableBytes(minimumWritableBytes: size) { bytes in
                header.encode(into: bytes, payloadLength: payload.count)
                UnsafeMutableRawBufferPointer(rebasing: bytes[OpHeader.size...]).copyMemory(from: payload)
                return size
            }
        }
    }

    /// Appends two ops without payload.
    mutating func writeOps(_ first: OpHeader, _ second: OpHeader) {
        writeWithUnsafeMutableBytes(minimumWritableBytes: 2 * OpHeader.size) { bytes in
            first.encode(into: bytes, payloadLength: 0)
            second.encode(into: UnsafeMutableRawBufferPointer(rebasing: bytes[OpHeader.size...]), payloadLength: 0)
            return 2 * OpHeader.size
        }
    }

    /// Appends an op without payload.
    package mutating func writeOp(_ header: OpHeader) {
        writeOpHeader(header, payloadLength: 0)
    }

    /// Appends an op whose payload is a number, such as REWIND and WND_SIZE.
    package mutating func writeOp(_ header: OpHeader, number: UInt32) {
        writeOpHeader(header, payloadLength: 4)
        writeInteger(number)
    }

    /// Appends an op whose payload is text. The text is cut after ``Op/maximumPayload`` bytes.
    package mutating func writeOp(_ header: OpHeader, text: String) {
        let bytes = text.utf8.prefix(Op.maximumPayload)
        writeOpHeader(header, payloadLength: bytes.count)
        writeBytes(bytes)
    }

    /// Appends an op.
    package mutating func writeOp(_ op: Op) {
        writeOpHeader(op.header, payloadLength: op.payload.readableBytes)
        writeImmutableBuffer(op.payload)
    }

    /// Appends an op whose payload is a dial block. The block must be valid (``DialBlock/validate()``).
    ///
    /// - Returns: the size of the op in bytes.
    @discardableResult
    package mutating func writeOp(_ header: OpHeader, _ block: DialBlock) -> Int {
        let length = block.encodedSize
        return writeWithUnsafeMutableBytes(minimumWritableBytes: OpHeader.size + length) { bytes in
            header.encode(into: bytes, payloadLength: length)
            block.encode(into: UnsafeMutableRawBufferPointer(rebasing: bytes[OpHeader.size...]))
            return OpHeader.size + length
        }
    }

    /// Appends ERR with a message, then FIN1 and FIN2, because a Go peer does not end a read at ERR.
    mutating func writeFailure(_ message: String, to remote: Address, from local: Address) {
        writeOp(OpHeader(.err, to: remote, from: local), text: message)
        writeOp(OpHeader(.fin1, to: remote, from: local))
        writeOp(OpHeader(.fin2, to: remote, from: local))
    }

    /// Appends RST, which tells `peer` that `host` is lost.
    mutating func writeReset(of host: HostID, to peer: HostID) {
        writeOp(OpHeader(.rst, to: Address(host: peer, port: 0), from: Address(host: host, port: 0)))
    }

    /// Appends SERVICE or NO_SERVICE.
    mutating func writeService(_ command: Command, _ name: String, at address: Address, to host: HostID = .peer) {
        writeOp(OpHeader(command, to: Address(host: host, port: 0), from: address), text: name)
    }

    /// The number in the payload of REWIND, WND_SIZE or TAKEN; `nil` if the payload is not 4 bytes long.
    package var number: UInt32? { readableBytes == 4 ? getInteger(at: readerIndex) : nil }

    /// Returns the first `length` bytes, or all bytes if there are fewer.
    func prefix(_ length: Int) -> ByteBuffer {
        getSlice(at: readerIndex, length: min(length, readableBytes))!
    }

    /// Returns the number of missing bytes of the first op. While its header is incomplete, these are the missing bytes
    /// of the header.
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

    /// Reads one op. Returns `nil` and consumes nothing while the op is incomplete.
    ///
    /// - Throws: ``AstraNetError`` with code `protocolViolation` if the header is complete and the payload length
    ///   exceeds `maximumPayload`.
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
