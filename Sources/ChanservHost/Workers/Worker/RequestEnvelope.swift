package import Chanserv
package import NIOCore

/// Request from a host to its worker. The envelope contains the facts that the worker cannot determine itself, followed
/// by the body.
///
/// Format: seven texts, each with a u16 length: vAddr, remote address, peer address, identity, meta, bucket, trace
/// parent. Then the remaining time as i64 nanoseconds (-1 for no deadline), then the body. All integers are big-endian.
/// A missing tag has the length 65,535.
package struct RequestEnvelope: Hashable {
    var vAddr: String
    var remoteAddress: String
    var context = RequestContext()
    var body: ByteBuffer

    private static let missing = UInt16.max

    package init(vAddr: String, remoteAddress: String, context: RequestContext = RequestContext(), body: ByteBuffer) {
        self.vAddr = vAddr
        self.remoteAddress = remoteAddress
        self.context = context
        self.body = body
    }

    package init(_ request: Request) {
        self.init(
            vAddr: request.vAddr, remoteAddress: request.remoteAddress, context: request.context, body: request.body)
    }

    package func write(into buffer: inout ByteBuffer) {
        let texts: [String?] = [
            vAddr, remoteAddress, context.peerAddress, context.identity, context.meta, context.bucket,
            context.traceParent,
        ]
        for text in texts {
            guard let text else {
                buffer.writeInteger(Self.missing)
                continue
            }
            // No text reaches the limit: names have at most 1,024 bytes, a dial block at most 4,096.
            let bytes = text.utf8.prefix(Int(Self.missing) - 1)
            buffer.writeInteger(UInt16(bytes.count))
            buffer.writeBytes(bytes)
        }
        let left = context.deadline.map { max(0, ContinuousClock.now.duration(to: $0) / .nanoseconds(1)) }
        buffer.writeInteger(left.map { Int64(min($0, 9e18)) } ?? -1)
        buffer.writeImmutableBuffer(body)
    }

    /// Returns `nil` if the bytes are not an envelope.
    package init?(reading buffer: ByteBuffer) {
        var rest = buffer
        guard let vAddr = Self.readText(&rest) ?? nil, let remoteAddress = Self.readText(&rest) ?? nil,
            let peerAddress = Self.readText(&rest) ?? nil, let identity = Self.readText(&rest) ?? nil,
            let meta = Self.readText(&rest), let bucket = Self.readText(&rest), let traceParent = Self.readText(&rest),
            let left: Int64 = rest.readInteger()
        else { return nil }
        self.init(
            vAddr: vAddr, remoteAddress: remoteAddress,
            context: RequestContext(
                deadline: left < 0 ? nil : .now + .nanoseconds(left), meta: meta, bucket: bucket,
                traceParent: traceParent, peerAddress: peerAddress, identity: identity),
            body: rest)
    }

    /// - Returns: `.some(nil)` for a missing tag, `nil` if the bytes are not a text.
    private static func readText(_ buffer: inout ByteBuffer) -> String?? {
        guard let length: UInt16 = buffer.readInteger() else { return nil }
        if length == missing { return .some(nil) }
        return buffer.readString(length: Int(length)).map { .some($0) }
    }
}
