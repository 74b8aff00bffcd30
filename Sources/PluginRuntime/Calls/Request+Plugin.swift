internal import CChanservPlugin
internal import Chanserv
internal import NIOCore

extension Request {
    /// Passes this request to `body` as a `struct chanserv_request`.
    ///
    /// - Parameter body: receives the struct. The struct and everything it points to are valid until `body` returns.
    func withPluginRequest<Result>(_ body: (UnsafePointer<chanserv_request>) -> Result) -> Result {
        self.body.withUnsafeReadableBytes { bytes in
            vAddr.withCString { vAddr in
                remoteAddress.withCString { remoteAddress in
                    var request = chanserv_request()
                    request.struct_size = UInt32(MemoryLayout<chanserv_request>.size)
                    // The header promises a body that is never NULL. For an empty body any address is correct.
                    request.body = bytes.baseAddress ?? UnsafeRawPointer(vAddr)
                    request.body_size = bytes.count
                    request.vaddr = vAddr
                    request.remote_address = remoteAddress
                    return context.fill(&request, body)
                }
            }
        }
    }
}

extension RequestContext {
    /// Sets the fields of ABI version 1.1 in `request` and passes it to `body`.
    fileprivate func fill<Result>(
        _ request: inout chanserv_request, _ body: (UnsafePointer<chanserv_request>) -> Result
    ) -> Result {
        request.deadline = deadline.map { max(0, Self.nanoseconds(until: $0)) } ?? -1
        return withText(meta) { meta in
            withText(bucket) { bucket in
                withText(traceParent) { traceParent in
                    peerAddress.withCString { peerAddress in
                        identity.withCString { identity in
                            request.meta = meta
                            request.bucket = bucket
                            request.traceparent = traceParent
                            request.peer_address = peerAddress
                            request.identity = identity
                            return body(&request)
                        }
                    }
                }
            }
        }
    }

    private static func nanoseconds(until deadline: ContinuousClock.Instant) -> Int64 {
        let (seconds, attoseconds) = ContinuousClock.now.duration(to: deadline).components
        let (product, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflows else { return seconds < 0 ? 0 : .max }
        let (sum, carries) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return carries ? .max : sum
    }
}

/// Passes `text` to `body` as a zero-terminated string, or NULL for `nil`.
private func withText<Result>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> Result) -> Result {
    guard let text else { return body(nil) }
    return text.withCString { body($0) }
}
