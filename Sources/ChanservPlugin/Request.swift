import CChanservPlugin

/// A request that a client posted.
public struct Request: Sendable {
    /// The body, at most 100 MiB.
    public let body: [UInt8]
    /// The virtual address to which the request was posted.
    public let vAddr: String
    /// The address of the client, in AstraNet notation.
    public let remoteAddress: String
    /// The time at which the client gives up; `nil` for no deadline. A plugin that cannot finish by then need not
    /// begin.
    public let deadline: ContinuousClock.Instant?
    /// The client's tag `meta`: free text about the request; `nil` if the client set none.
    public let meta: String?
    /// The client's tag `bucket`, by which it chose among several hosts; `nil` if the client set none.
    public let bucket: String?
    /// The `traceparent` of W3C Trace Context, for the plugin's own spans; `nil` if the client sent none.
    public let traceParent: String?
    /// `ip:port` of the client, or of the router through which the request came; may be empty.
    public let peerAddress: String
    /// The verified name of the client: a URI or DNS name of its certificate, `sha256:` and the fingerprint of its key,
    /// or `uid:` and the user ID at a Unix socket. Empty if none was proved.
    public let identity: String

    /// The body decoded as UTF-8; invalid bytes become U+FFFD.
    public var text: String { String(decoding: body, as: UTF8.self) }

    /// Copies a request of the host.
    ///
    /// - Parameter request: only its first `struct_size` bytes are readable. A host with ABI version 1.0 provides only
    ///   the first three properties.
    init(_ request: UnsafePointer<chanserv_request>) {
        body = [UInt8](UnsafeRawBufferPointer(start: request.pointee.body, count: request.pointee.body_size))
        vAddr = request.pointee.vaddr.map { String(cString: $0) } ?? ""
        remoteAddress = request.pointee.remote_address.map { String(cString: $0) } ?? ""
        guard request.pointee.struct_size >= Self.sizeOfVersion11 else {
            deadline = nil
            (meta, bucket, traceParent) = (nil, nil, nil)
            (peerAddress, identity) = ("", "")
            return
        }
        let left = request.pointee.deadline
        deadline = left < 0 ? nil : .now.advanced(by: .nanoseconds(left))
        meta = request.pointee.meta.map { String(cString: $0) }
        bucket = request.pointee.bucket.map { String(cString: $0) }
        traceParent = request.pointee.traceparent.map { String(cString: $0) }
        peerAddress = request.pointee.peer_address.map { String(cString: $0) } ?? ""
        identity = request.pointee.identity.map { String(cString: $0) } ?? ""
    }

    /// The minimum `struct_size` of a `chanserv_request` with the fields of version 1.1.
    private static let sizeOfVersion11 = UInt32(MemoryLayout<chanserv_request>.offset(of: \.flags)!)
}
