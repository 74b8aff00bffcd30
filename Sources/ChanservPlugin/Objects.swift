import CChanservPlugin

/// A plugin instance and its host.
final class Instance: Sendable {
    let plugin: any Plugin
    let host: Host

    init(_ type: any Plugin.Type, host: UnsafePointer<chanserv_host>, config: OpaquePointer?) throws {
        self.host = Host(host)
        plugin = try type.init(configuration: Configuration(host: host, config: config), log: Log(host: self.host))
    }
}

/// A request that is being served.
final class Call: @unchecked Sendable {
    // Sendable: only `queue` is not, and only polls use it, which the host serialises.
    private var queue = SourceQueue()
    private let pipe: Pipe<SourceQueue>
    private let instance: Instance
    private let request: Request

    init(_ instance: Instance, _ request: Request) {
        self.instance = instance
        self.request = request
        pipe = Pipe(host: instance.host)
    }

    func poll(
        _ sink: UnsafeMutablePointer<chanserv_source_sink>, _ error: UnsafeMutablePointer<chanserv_error>?
    ) -> chanserv_status {
        while true {
            var refusal = chanserv_status(CHANSERV_READY)
            queue.drain { source in
                refusal = offer(source, to: sink)
                return refusal == CHANSERV_READY
            }
            if refusal == CHANSERV_FULL { return chanserv_status(CHANSERV_READY) }
            if refusal != CHANSERV_READY {
                return PluginError(.internal, "a source was refused (\(refusal))").report(to: error)
            }
            let action = pipe.take(into: &queue, wake: sink.pointee.wake) {
                [plugin = instance.plugin, request, writer = SourceWriter(pipe: pipe)] in
                try await plugin.serve(request, to: writer)
            }
            switch action {
            case .drain: continue
            case .wait: return chanserv_status(CHANSERV_PENDING)
            case .end: return chanserv_status(CHANSERV_END)
            case .fail(let failure): return failure.report(to: error)
            }
        }
    }

    private func offer(_ source: Source, to sink: UnsafeMutablePointer<chanserv_source_sink>) -> chanserv_status {
        let stream = handOut(Stream(source, instance.host))
        let status = source.header.withUnsafeBytes { header in
            // The header is empty, but its pointer must not be NULL.
            sink.pointee.add(sink, header.baseAddress ?? UnsafeRawPointer(sink), header.count, stream)
        }
        if status != CHANSERV_READY { takeBack(stream, as: Stream.self) }
        return status
    }

    func cancel() {
        pipe.cancel()
    }
}

/// A source that is being read.
final class Stream: @unchecked Sendable {
    // Sendable: only `queue` is not, and only polls use it, which the host serialises.
    private var queue = FrameQueue()
    private let pipe: Pipe<FrameQueue>
    private let source: Source

    init(_ source: Source, _ host: Host) {
        self.source = source
        pipe = Pipe(host: host)
    }

    func poll(
        _ sink: UnsafeMutablePointer<chanserv_frame_sink>, _ error: UnsafeMutablePointer<chanserv_error>?
    ) -> chanserv_status {
        while true {
            do {
                switch try drain(into: sink) {
                case chanserv_status(CHANSERV_READY): break
                case chanserv_status(CHANSERV_FULL): return chanserv_status(CHANSERV_READY)
                case let refusal: throw PluginError(.internal, "a frame was refused (\(refusal))")
                }
            } catch let failure {
                pipe.cancel()
                return PluginError(describing: failure).report(to: error)
            }
            let action = pipe.take(into: &queue, wake: sink.pointee.wake) {
                [produce = source.produce, writer = FrameWriter(pipe: pipe)] in
                try await produce(writer)
            }
            switch action {
            case .drain: continue
            case .wait: return chanserv_status(CHANSERV_PENDING)
            case .end: return chanserv_status(CHANSERV_END)
            case .fail(let failure): return failure.report(to: error)
            }
        }
    }

    /// The minimum `struct_size` of a frame sink with `lend`.
    private static let sizeWithLend =
        UInt32(MemoryLayout<chanserv_frame_sink>.offset(of: \.lend)! + MemoryLayout<UnsafeRawPointer>.size)

    /// Lends a frame. A host with ABI version 1.0 copies it.
    private func lend(
        _ frame: UnsafeRawBufferPointer, of owner: AnyObject, to sink: UnsafeMutablePointer<chanserv_frame_sink>
    ) -> chanserv_status {
        let start = frame.baseAddress ?? UnsafeRawPointer(sink)
        guard sink.pointee.struct_size >= Self.sizeWithLend, let lend = sink.pointee.lend else {
            return sink.pointee.append(sink, start, frame.count)
        }
        let context = Unmanaged.passRetained(owner)
        let status = lend(
            sink, start, frame.count, { Unmanaged<AnyObject>.fromOpaque($0!).release() }, context.toOpaque())
        if status != CHANSERV_READY { context.release() }
        return status
    }

    /// Passes frames to the host and returns the status of the last one.
    private func drain(into sink: UnsafeMutablePointer<chanserv_frame_sink>) throws -> chanserv_status {
        var status = chanserv_status(CHANSERV_READY)
        try queue.drain(
            take: { frame in
                status = sink.pointee.append(sink, frame.baseAddress ?? UnsafeRawPointer(sink), frame.count)
                return status == CHANSERV_READY
            },
            lend: { frame, owner in
                status = lend(frame, of: owner, to: sink)
                return status == CHANSERV_READY
            },
            fill: { capacity, fill in
                var size = 0
                guard let start = sink.pointee.reserve(sink, capacity, &size) else {
                    status = chanserv_status(CHANSERV_FULL)
                    return false
                }
                let room = UnsafeMutableRawBufferPointer(start: start, count: capacity)
                var span = OutputRawSpan(buffer: room, initializedCount: 0)
                try fill(&span)
                status = sink.pointee.commit(sink, span.finalize(for: room))
                return status == CHANSERV_READY
            })
        return status
    }

    func cancel() {
        pipe.cancel()
    }
}
