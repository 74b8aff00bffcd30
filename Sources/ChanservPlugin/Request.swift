import CChanservPlugin

/// What a client posted.
public struct Request: Sendable {
    /// The body, at most 100 MiB.
    public let body: [UInt8]
    /// The virtual address it was posted to.
    public let vAddr: String
    /// Where the client is, in AstraNet notation.
    public let remoteAddress: String

    /// The body as text; bytes that are not UTF-8 become U+FFFD.
    public var text: String { String(decoding: body, as: UTF8.self) }

    init(_ request: chanserv_request) {
        body = [UInt8](UnsafeRawBufferPointer(start: request.body, count: request.body_size))
        vAddr = request.vaddr.map { String(cString: $0) } ?? ""
        remoteAddress = request.remote_address.map { String(cString: $0) } ?? ""
    }
}
