internal import CChanservPlugin
internal import Chanserv

/// Sink that adds the frames of one poll_frames to a batch through a `struct chanserv_frame_sink`.
struct FrameSink {
    private let batch: UnsafeMutablePointer<FrameBatch>
    private let context: PluginContext
    private var capacity: Int?
    /// Number of frames taken and their size in bytes.
    private(set) var frames = 0
    private(set) var bytes = 0
    /// Whether a frame was offered and not taken because the batch had no room for it.
    private(set) var isFull = false

    /// - Parameters:
    ///   - batch: must stay valid while the plugin has the sink.
    ///   - context: context of the instance that is polled.
    init(_ batch: UnsafeMutablePointer<FrameBatch>, context: PluginContext) {
        self.batch = batch
        self.context = context
    }

    /// Passes the sink to the plugin for one poll.
    mutating func withPointer<Result>(
        wakeHandle: UInt64, _ body: (UnsafeMutablePointer<chanserv_frame_sink>) -> Result
    ) -> Result {
        var table = chanserv_frame_sink()
        table.struct_size = UInt32(MemoryLayout<chanserv_frame_sink>.size)
        table.wake = wakeHandle
        table.append = { table, data, size in
            guard let sink = FrameSink.of(table) else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
            return sink.pointee.append(data, size)
        }
        table.reserve = { table, minimum, capacity in
            guard let sink = FrameSink.of(table) else { return nil }
            return sink.pointee.reserve(minimum, capacity)
        }
        table.commit = { table, size in
            guard let sink = FrameSink.of(table) else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
            return sink.pointee.commit(size)
        }
        table.lend = { table, data, size, release, argument in
            guard let sink = FrameSink.of(table) else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
            return sink.pointee.lend(data, size, release, argument)
        }
        return withUnsafeMutablePointer(to: &self) { sink in
            table.context = UnsafeMutableRawPointer(sink)
            return body(&table)
        }
    }

    /// Returns the sink behind `table`. Its `context` is the address of a value that stays in place until `withPointer`
    /// returns.
    private static func of(_ table: UnsafeMutablePointer<chanserv_frame_sink>?) -> UnsafeMutablePointer<FrameSink>? {
        table?.pointee.context?.assumingMemoryBound(to: FrameSink.self)
    }

    private mutating func lend(
        _ data: UnsafeRawPointer?, _ size: Int, _ release: Lease.Release?, _ argument: UnsafeMutableRawPointer?
    ) -> chanserv_status {
        guard size >= 0, size <= FrameBatch.maxFrameSize else { return chanserv_status(CHANSERV_ERROR_TOO_LARGE) }
        guard let release, data != nil || size == 0 else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
        guard batch.pointee.hasCapacity(for: size) else {
            isFull = true
            return chanserv_status(CHANSERV_FULL)
        }
        if batch.pointee.isSentAsIs(UnsafeRawBufferPointer(start: data, count: size)), let data,
            let buffers = context.lent.lend(data, size: size, context: context, release: release, argument: argument)
        {
            capacity = nil
            batch.pointee.append(lent: buffers)
            frames += 1
            bytes += size
            return chanserv_status(CHANSERV_READY)
        }
        let status = append(data, size)
        // The release function runs in place. This is the plugin's own call, and the host holds no lock during a poll.
        if status == CHANSERV_READY { release(argument) }
        return status
    }

    private mutating func append(_ data: UnsafeRawPointer?, _ size: Int) -> chanserv_status {
        guard size >= 0, size <= FrameBatch.maxFrameSize else { return chanserv_status(CHANSERV_ERROR_TOO_LARGE) }
        guard data != nil || size == 0 else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
        guard batch.pointee.hasCapacity(for: size) else {
            isFull = true
            return chanserv_status(CHANSERV_FULL)
        }
        capacity = nil
        do {
            try batch.pointee.append(copying: UnsafeRawBufferPointer(start: data, count: size))
        } catch {
            return chanserv_status(CHANSERV_ERROR_TOO_LARGE)
        }
        frames += 1
        bytes += size
        return chanserv_status(CHANSERV_READY)
    }

    private mutating func reserve(_ minimum: Int, _ capacityOut: UnsafeMutablePointer<Int>?) -> UnsafeMutableRawPointer?
    {
        guard minimum >= 0, minimum <= FrameBatch.maxFrameSize else { return nil }
        // Even for a minimum of 0 the plugin gets room to write to.
        guard let room = batch.pointee.reserve(minimum: max(minimum, 1)) else {
            isFull = true
            return nil
        }
        capacity = room.count
        capacityOut?.pointee = room.count
        return room.baseAddress
    }

    private mutating func commit(_ size: Int) -> chanserv_status {
        guard let capacity, size >= 0, size <= capacity else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
        self.capacity = nil
        do {
            try batch.pointee.commit(size: size)
        } catch {
            return chanserv_status(CHANSERV_ERROR_TOO_LARGE)
        }
        frames += 1
        bytes += size
        return chanserv_status(CHANSERV_READY)
    }
}
