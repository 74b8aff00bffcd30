internal import CChanservPlugin
internal import Chanserv
internal import DequeModule
internal import NIOCore

/// Sink for the sources that one poll_sources adds through a `struct chanserv_source_sink`.
struct SourceSink {
    private let request: PluginRequest
    private(set) var sources = Deque<(header: SourceHeader, source: PluginSource)>()
    private var headerBytes = 0

    /// Maximum number of sources in one poll.
    private static let sourceLimit = 256
    /// Maximum size of all headers in one poll: 1 MiB. A single larger header is accepted.
    private static let headerLimit = 1 << 20

    init(request: PluginRequest) {
        self.request = request
    }

    /// Passes the sink to the plugin for one poll.
    mutating func withPointer<Result>(
        wakeHandle: UInt64, _ body: (UnsafeMutablePointer<chanserv_source_sink>) -> Result
    ) -> Result {
        var table = chanserv_source_sink()
        table.struct_size = UInt32(MemoryLayout<chanserv_source_sink>.size)
        table.wake = wakeHandle
        table.add = { table, header, headerSize, source in
            guard let sink = table?.pointee.context else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
            // `context` is the address of this value, which stays in place until `withPointer` returns.
            return sink.assumingMemoryBound(to: SourceSink.self).pointee
                .add(header: header, size: headerSize, source: source)
        }
        return withUnsafeMutablePointer(to: &self) { sink in
            table.context = UnsafeMutableRawPointer(sink)
            return body(&table)
        }
    }

    private mutating func add(header: UnsafeRawPointer?, size: Int, source: OpaquePointer?) -> chanserv_status {
        guard size >= 0, size <= FrameBatch.maxFrameSize else { return chanserv_status(CHANSERV_ERROR_TOO_LARGE) }
        guard let source, header != nil || size == 0 else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
        guard sources.isEmpty || (sources.count < Self.sourceLimit && headerBytes + size <= Self.headerLimit) else {
            return chanserv_status(CHANSERV_FULL)
        }
        headerBytes += size
        let header = SourceHeader(copying: UnsafeRawBufferPointer(start: header, count: size))
        sources.append((header, request.add(PluginPointer(raw: source))))
        return chanserv_status(CHANSERV_READY)
    }
}
