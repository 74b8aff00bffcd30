import AstraNet
import NIOCore

/// An op with a codec of the tests, independent of the library's, so that each checks the other.
struct WireOp: Hashable, Sendable {
    var command: Command
    var destination: Address
    var source: Address
    var payload: [UInt8] = []

    static let headerSize = 29

    init(_ command: Command, to destination: Address, from source: Address, payload: [UInt8] = []) {
        self.command = command
        self.destination = destination
        self.source = source
        self.payload = payload
    }

    init(_ command: Command, to destination: Address, from source: Address, number: UInt32) {
        self.init(command, to: destination, from: source, payload: Self.bigEndian(UInt64(number), bytes: 4))
    }

    init(_ command: Command, to destination: Address, from source: Address, text: String) {
        self.init(command, to: destination, from: source, payload: Array(text.utf8))
    }

    var text: String { String(decoding: payload, as: UTF8.self) }

    /// The number that is the payload of REWIND and WND_SIZE.
    var number: UInt32? { payload.count == 4 ? UInt32(Self.number(payload[0..<4])) : nil }

    var encoded: [UInt8] {
        [command.rawValue] + Self.bigEndian(destination.host.rawValue, bytes: 8)
            + Self.bigEndian(source.host.rawValue, bytes: 8) + Self.bigEndian(UInt64(destination.port), bytes: 4)
            + Self.bigEndian(UInt64(source.port), bytes: 4) + Self.bigEndian(UInt64(payload.count), bytes: 4) + payload
    }

    /// Takes the op at the front of `bytes`. Returns `nil` while the op is incomplete.
    static func take(from bytes: inout ByteBuffer) -> WireOp? {
        let start = bytes.readerIndex
        guard bytes.readableBytes >= headerSize, let length = bytes.getInteger(at: start + 25, as: UInt32.self),
            bytes.readableBytes >= headerSize + Int(length)
        else { return nil }
        defer { bytes.moveReaderIndex(forwardBy: headerSize + Int(length)) }
        return WireOp(
            Command(rawValue: bytes.getInteger(at: start)!),
            to: Address(
                host: HostID(rawValue: bytes.getInteger(at: start + 1)!), port: bytes.getInteger(at: start + 17)!),
            from: Address(
                host: HostID(rawValue: bytes.getInteger(at: start + 9)!), port: bytes.getInteger(at: start + 21)!),
            payload: bytes.getBytes(at: start + headerSize, length: Int(length))!)
    }

    private static func bigEndian(_ value: UInt64, bytes: Int) -> [UInt8] {
        (0..<bytes).reversed().map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }
}

extension Address {
    /// Destination 0: the peer of the link.
    static let otherEnd = Address(host: HostID(rawValue: 0), port: 0)

    init(_ host: HostID, _ port: UInt32) {
        self.init(host: host, port: port)
    }
}
