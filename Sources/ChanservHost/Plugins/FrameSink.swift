internal import CChanservPlugin
internal import Chanserv

/// What poll_frames adds to: `struct chanserv_frame_sink` with the outgoing batch behind it.
struct FrameSink {
    /// First, so that the address of the one is that of the other.
    private var head = chanserv_frame_sink()
    private let batch: UnsafeMutablePointer<FrameBatch>
    private var capacity: Int?
    /// Frames taken, and their bytes.
    private(set) var frames = 0
    private(set) var bytes = 0
    /// A frame was offered and not taken: there is no room beside those in the batch.
    private(set) var isFull = false

    /// - Parameter batch: must stay valid for as long as the sink is lent.
    init(_ batch: UnsafeMutablePointer<FrameBatch>) {
        self.batch = batch
    }

    /// Lends the sink to the plugin for one poll.
    mutating func withPointer<Result>(
        wakeHandle: UInt64, _ body: (UnsafeMutablePointer<chanserv_frame_sink>) -> Result
    ) -> Result {
        head.struct_size = UInt32(MemoryLayout<chanserv_frame_sink>.size)
        head.wake = wakeHandle
        head.append = { sink, data, size in
            guard let sink else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
            return FrameSink.of(sink).pointee.append(data, size)
        }
        head.reserve = { sink, minimum, capacity in
            guard let sink else { return nil }
            return FrameSink.of(sink).pointee.reserve(minimum, capacity)
        }
        head.commit = { sink, size in
            guard let sink else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
            return FrameSink.of(sink).pointee.commit(size)
        }
        return withUnsafeMutablePointer(to: &self) { pointer in
            body(UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: chanserv_frame_sink.self))
        }
    }

    private static func of(_ sink: UnsafeMutablePointer<chanserv_frame_sink>) -> UnsafeMutablePointer<FrameSink> {
        UnsafeMutableRawPointer(sink).assumingMemoryBound(to: FrameSink.self)
    }

    private mutating func append(_ data: UnsafeRawPointer?, _ size: Int) -> chanserv_status {
        guard size >= 0, size <= FrameBatch.maxFrameSize else { return chanserv_status(CHANSERV_ERROR_TOO_LARGE) }
        guard data != nil || size == 0 else { return chanserv_status(CHANSERV_ERROR_BAD_REQUEST) }
        guard batch.pointee.hasRoom(for: size) else {
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
        // A plugin that asks for nothing in particular gets room to write into all the same.
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
