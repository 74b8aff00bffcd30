import AstraNet
import NIOCore
import Testing

@Suite struct OpTests {
    static let all: [Command] = [
        .syn, .ack, .synAck, .fin1, .fin2, .err, .forceClosed, .data, .windowSize, .rewind, .ping, .pong, .dial,
        .handshake, .service, .noService, .follow, .discover, .rst,
    ]

    /// One op for each command, with extreme host ids and ports and payloads of different sizes.
    static let ops: [Op] = all.enumerated().map { index, command in
        Op(
            header: OpHeader(
                command, to: Address(host: HostID(rawValue: .max >> UInt64(index)), port: UInt32.max >> UInt32(index)),
                from: Address(host: HostID(rawValue: UInt64(index) << 56 | 0x1122), port: UInt32(index) << 24 | 0x33)),
            payload: ByteBuffer(repeating: UInt8(index), count: index * 7 % 40))
    }

    @Test func `an op has the layout of protocol section 1`() {
        let op = Op(
            header: OpHeader(
                .data, to: Address(host: HostID(rawValue: 0x0102_0304_0506_0708), port: 0x1112_1314),
                from: Address(host: HostID(rawValue: 0x2122_2324_2526_2728), port: 0x3132_3334)),
            payload: ByteBuffer(bytes: [0xAA, 0xBB]))
        var bytes = ByteBuffer()
        bytes.writeOp(op)
        #expect(
            bytes
                == ByteBuffer(bytes: [
                    128, 1, 2, 3, 4, 5, 6, 7, 8, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x11, 0x12, 0x13, 0x14,
                    0x31, 0x32, 0x33, 0x34, 0, 0, 0, 2, 0xAA, 0xBB,
                ]))
    }

    @Test func `commands have the numbers and names of the protocol`() {
        #expect(
            Self.all.map(\.rawValue) == [
                2, 4, 6, 8, 16, 32, 62, 128, 129, 130, 160, 161, 190, 191, 192, 193, 194, 195, 196,
            ])
        #expect(Command.synAck.description == "SYN_ACK")
        #expect(Command(rawValue: 77).description == "command 77")
    }

    @Test(arguments: ops)
    func `an op is read as it was written`(op: Op) throws {
        var bytes = ByteBuffer()
        bytes.writeOp(op)
        #expect(bytes.readableBytes == OpHeader.size + op.payload.readableBytes)
        let other = WireOp(
            op.header.command, to: op.header.destination, from: op.header.source,
            payload: Array(op.payload.readableBytesView))
        #expect(Array(bytes.readableBytesView) == other.encoded)
        #expect(try bytes.readOp() == op)
        #expect(bytes.readableBytes == 0)
    }

    @Test func `an unknown command is read and kept`() throws {
        var bytes = ByteBuffer()
        let op = Op(
            header: OpHeader(
                Command(rawValue: 255), to: Address(host: .peer, port: 1), from: Address(host: .peer, port: 2)))
        bytes.writeOp(op)
        #expect(try bytes.readOp() == op)
    }

    @Test func `ops are read completely if the bytes are cut at any place`() throws {
        var stream = ByteBuffer()
        for op in Self.ops { stream.writeOp(op) }
        for cut in 0...stream.readableBytes {
            var bytes = stream.getSlice(at: 0, length: cut)!
            var read: [Op] = []
            while let op = try bytes.readOp() { read.append(op) }
            let taken = read.reduce(0) { $0 + OpHeader.size + $1.payload.readableBytes }
            #expect(bytes.readableBytes == cut - taken, "bytes of an incomplete op stay in the buffer")
            bytes.writeImmutableBuffer(stream.getSlice(at: cut, length: stream.readableBytes - cut)!)
            while let op = try bytes.readOp() { read.append(op) }
            #expect(read == Self.ops, "cut at \(cut)")
            #expect(bytes.readableBytes == 0)
        }
    }

    @Test func `ops that arrive byte by byte are read completely`() throws {
        var stream = ByteBuffer()
        for op in Self.ops { stream.writeOp(op) }
        var bytes = ByteBuffer()
        var read: [Op] = []
        for byte in stream.readableBytesView {
            bytes.writeInteger(byte)
            while let op = try bytes.readOp() { read.append(op) }
        }
        #expect(read == Self.ops)
    }

    @Test func `a payload of the maximum size is read, one more byte is a protocol violation`() throws {
        let header = OpHeader(.data, to: Address(host: .peer, port: 1), from: Address(host: .peer, port: 2))
        var bytes = ByteBuffer()
        bytes.writeOp(Op(header: header, payload: ByteBuffer(repeating: 7, count: 65_536)))
        #expect(try bytes.readOp()?.payload.readableBytes == 65_536)
        // The header alone is enough to detect it.
        for length in [65_537, Int(UInt32.max)] {
            bytes.writeOpHeader(header, payloadLength: length)
            let error = #expect(throws: AstraNetError.self) { try bytes.readOp() }
            #expect(error?.code == .protocolViolation)
            bytes.clear()
        }
        bytes.writeOpHeader(header, payloadLength: 65_537)
        bytes = bytes.getSlice(at: 0, length: OpHeader.size - 1)!
        #expect(try bytes.readOp() == nil)
    }

    @Test func `a payload limit passed by the caller applies`() throws {
        let header = OpHeader(.data, to: Address(host: .peer, port: 1), from: Address(host: .peer, port: 2))
        var bytes = ByteBuffer()
        bytes.writeOpHeader(header, payloadLength: 1_000_000)
        #expect(try bytes.readOp(maximumPayload: 1_000_000) == nil)
        #expect(throws: AstraNetError.self) { try bytes.readOp(maximumPayload: 999_999) }
    }

    @Test func `numbers and texts are written as payloads`() throws {
        let header = OpHeader(.rewind, to: Address(host: .peer, port: 1), from: Address(host: .peer, port: 2))
        var bytes = ByteBuffer()
        bytes.writeOp(header, number: 0x0102_0304)
        bytes.writeOp(header, text: "grüße")
        bytes.writeOp(header)
        #expect(try bytes.readOp()?.payload == ByteBuffer(bytes: [1, 2, 3, 4]))
        #expect(try bytes.readOp()?.payload == ByteBuffer(string: "grüße"))
        #expect(try bytes.readOp()?.payload == ByteBuffer())
    }

    @Test func `a text longer than the maximum payload is cut`() throws {
        let header = OpHeader(.err, to: Address(host: .peer, port: 1), from: Address(host: .peer, port: 2))
        var bytes = ByteBuffer()
        bytes.writeOp(header, text: String(repeating: "x", count: 70_000))
        #expect(try bytes.readOp()?.payload.readableBytes == 65_536)
    }

    @Test(arguments: [0, 3, 5, 8])
    func `only a payload of four bytes is a number`(count: Int) {
        #expect(ByteBuffer(repeating: 1, count: count).number == nil)
        #expect(ByteBuffer(bytes: [0xFF, 0, 0, 1]).number == 0xFF00_0001)
    }
}
