import CChanservPlugin

/// What a client posted.
public struct Request: Sendable {
    /// The body, at most 100 MiB.
    public let body: [UInt8]
    /// The virtual address it was posted to.
    public let vAddr: String
    /// Where the client is, in AstraNet notation.
    public let remoteAddress: String
    /// When the client gives up; `nil` for no deadline. Whoever cannot be done by then need not begin.
    public let deadline: ContinuousClock.Instant?
    /// The tag `meta` of the client: free text about the request.
    public let meta: String?
    /// The tag `bucket` of the client, by which it chose among several hosts.
    public let bucket: String?
    /// The `traceparent` of W3C Trace Context, for spans of the plugin's own.
    public let traceParent: String?
    /// `ip:port` of the client, or of the router the request came through; may be empty.
    public let peerAddress: String
    /// The verified identity of the client. Always empty in this version.
    public let identity: String

    /// The body as text; bytes that are not UTF-8 become U+FFFD.
    public var text: String { String(decoding: body, as: UTF8.self) }

    /// - Parameter request: only its first `struct_size` bytes are there; a host of version 1.0 has no more than the first
    ///   three properties.
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

    /// How large `struct chanserv_request` is in version 1.1, with the last field that is read here.
    private static let sizeOfVersion11 = UInt32(MemoryLayout<chanserv_request>.offset(of: \.flags)!)
}
