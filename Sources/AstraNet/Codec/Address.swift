/// One end of a stream, or an offer of a service: a host and a port on it.
public struct Address: Hashable, Sendable {
    /// The node.
    public var host: HostID
    /// The port on it. Fixed ones lie below 2^24, those handed out count up from 2^24 + 1 (`docs/protocol.md` §1).
    public var port: UInt32

    public init(host: HostID, port: UInt32) {
        self.host = host
        self.port = port
    }

    /// The first port that is handed out.
    static let firstDynamicPort: UInt32 = 1 << 24 + 1
}

/// Printed as `<host>:<port>`, e.g. `EjRWeBI0VngA:16777217`.
extension Address: LosslessStringConvertible {
    public var description: String {
        // Each request prints one: without strings in between.
        String(unsafeUninitializedCapacity: HostID.digitCount + 11) { buffer in
            var end = host.write(into: buffer)
            buffer[end] = UInt8(ascii: ":")
            var digits = 1
            var rest = port / 10
            while rest > 0 {
                digits += 1
                rest /= 10
            }
            end += 1 + digits
            rest = port
            for index in 1...digits {
                buffer[end - index] = UInt8(ascii: "0") + UInt8(rest % 10)
                rest /= 10
            }
            return end
        }
    }

    /// Parses what ``description`` prints; `nil` for anything else.
    public init?(_ description: String) {
        let parts = description.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let host = HostID(String(parts[0])), let port = UInt32(parts[1]),
            // Swift's parser also takes a sign and leading zeros.
            String(port) == parts[1]
        else { return nil }
        self.init(host: host, port: port)
    }
}
