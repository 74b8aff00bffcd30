/// An address on the mesh: a host and a port of it. It names one end of a stream, or the offer of a service.
public struct Address: Hashable, Sendable {
    /// The host.
    public var host: HostID
    /// The port of the host. Fixed ports are below 2^24; all other ports count up from 2^24 + 1 (`docs/protocol.md`
    /// §1).
    public var port: UInt32

    public init(host: HostID, port: UInt32) {
        self.host = host
        self.port = port
    }

    /// The first port that a node hands out.
    package static let firstDynamicPort: UInt32 = 1 << 24 + 1
}

/// The text form is `<host>:<port>`, e.g. `EjRWeBI0VngA:16777217`.
extension Address: LosslessStringConvertible {
    public var description: String {
        // Each request prints an address, so it is built without intermediate strings.
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

    /// Parses the format of ``description``. Returns `nil` for any other text.
    public init?(_ description: String) {
        let parts = description.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let host = HostID(String(parts[0])), let port = UInt32(parts[1]),
            // Swift's parser also accepts a sign and leading zeros.
            String(port) == parts[1]
        else { return nil }
        self.init(host: host, port: port)
    }
}
