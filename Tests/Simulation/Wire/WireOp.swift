import AstraNet
import NIOCore

/// An op with a codec of the simulation, because the codec of the node is under test.
struct WireOp {
    var command: Command
    var destination: Address
    var source: Address
    var payload = ByteBuffer()

    var text: String { String(buffer: payload) }
    var number: UInt32? { payload.readableBytes == 4 ? payload.getInteger(at: payload.readerIndex) : nil }

    /// The block of a DIAL, SYN or ACK.
    var block: DialBlock? { payload.readableBytes > 0 ? DialBlock(decoding: payload) : nil }

    init(_ command: Command, to destination: Address, from source: Address, payload: ByteBuffer = ByteBuffer()) {
        self.command = command
        self.destination = destination
        self.source = source
        self.payload = payload
    }

    init(_ command: Command, to destination: Address, from source: Address, text: String) {
        self.init(command, to: destination, from: source, payload: ByteBuffer(string: text))
    }

    init(_ command: Command, to destination: Address, from source: Address, number: UInt32) {
        self.init(command, to: destination, from: source, payload: ByteBuffer(integer: number))
    }

    func write(to bytes: inout ByteBuffer) {
        bytes.writeMultipleIntegers(
            command.rawValue, destination.host.rawValue, source.host.rawValue, destination.port, source.port,
            UInt32(payload.readableBytes))
        bytes.writeImmutableBuffer(payload)
    }
}

extension WireOp: CustomStringConvertible {
    var description: String {
        switch command {
        case .service, .noService, .follow, .handshake, .err:
            "\(command) '\(text)' \(source) > \(destination)"
        case .rewind, .windowSize: "\(command) \(number.map(String.init) ?? "?") \(source) > \(destination)"
        case .dial, .syn, .ack:
            "\(command) \(source) > \(destination)" + (block.map { " \($0.text)" } ?? "")
        case .data: "\(command) \(payload.readableBytes) bytes \(source) > \(destination)"
        default: "\(command) \(source) > \(destination)"
        }
    }
}

extension DialBlock {
    fileprivate var text: String {
        var parts: [String] = []
        if let push { parts.append("push(N \(push.maximumSources), W \(push.window))") }
        if let cookie { parts.append("cookie(\(cookie % 10_000))") }
        if let deadlineMilliseconds { parts.append("deadline(\(deadlineMilliseconds) ms)") }
        if let source { parts.append("source(\(source.index) of port \(source.streamPort))") }
        return parts.joined(separator: ", ")
    }
}

/// Splits bytes into ops.
struct WireDecoder {
    private var bytes = ByteBuffer()

    mutating func append(_ more: ByteBuffer) {
        if bytes.readableBytes == 0 {
            bytes = more
        } else {
            bytes.writeImmutableBuffer(more)
        }
    }

    mutating func next() -> WireOp? {
        var ahead = bytes
        guard
            let (command, destinationHost, sourceHost, destinationPort, sourcePort, length) =
                ahead.readMultipleIntegers(as: (UInt8, UInt64, UInt64, UInt32, UInt32, UInt32).self),
            let payload = ahead.readSlice(length: Int(length))
        else { return nil }
        bytes = ahead
        return WireOp(
            Command(rawValue: command), to: Address(host: HostID(rawValue: destinationHost), port: destinationPort),
            from: Address(host: HostID(rawValue: sourceHost), port: sourcePort), payload: payload)
    }
}
