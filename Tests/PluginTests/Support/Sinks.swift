import CChanservPlugin
import Foundation

/// How much one poll may give.
struct Room: Sendable {
    var frames = Int.max
    var bytes = 1 << 20

    static let one = Room(frames: 1)
}

/// What a poll answered.
struct Answer<Item> {
    var status: chanserv_status
    var items: [Item]
    var message: String
    /// The largest room that was reserved, bytes.
    var largestReservation = 0
}

/// A frame sink that keeps to the contract as narrowly as it can: each reservation is exactly as large as asked for, and
/// moves when it grows.
final class FrameSink {
    private struct Box {
        var sink: chanserv_frame_sink
        var owner: Unmanaged<FrameSink>
    }

    private let room: Room
    private let box: UnsafeMutablePointer<Box>
    private(set) var frames: [[UInt8]] = []
    private(set) var largestReservation = 0
    private var bytes = 0
    private var reservation: UnsafeMutableRawBufferPointer?

    init(_ room: Room, wake: UInt64) {
        self.room = room
        box = .allocate(capacity: 1)
        let sink = chanserv_frame_sink(
            struct_size: UInt32(MemoryLayout<chanserv_frame_sink>.size), reserved: 0, wake: wake,
            append: { FrameSink.of($0).append(UnsafeRawBufferPointer(start: $1, count: $2)) },
            reserve: { FrameSink.of($0).reserve($1, $2) },
            commit: { FrameSink.of($0).commit($1) })
        box.initialize(to: Box(sink: sink, owner: .passUnretained(self)))
    }

    deinit {
        reservation?.deallocate()
        box.deallocate()
    }

    private static func of(_ sink: UnsafeMutablePointer<chanserv_frame_sink>?) -> FrameSink {
        UnsafeMutableRawPointer(sink!).assumingMemoryBound(to: Box.self).pointee.owner.takeUnretainedValue()
    }

    /// Runs a poll with this sink.
    func poll(_ body: (UnsafeMutablePointer<chanserv_frame_sink>) -> chanserv_status) -> chanserv_status {
        let status = UnsafeMutableRawPointer(box).withMemoryRebound(to: chanserv_frame_sink.self, capacity: 1, body)
        // A plugin that kept the sink would be seen at once.
        box.pointee.sink.append = { _, _, _ in fatalError("the sink is used after its poll") }
        return status
    }

    private func hasRoom(_ size: Int) -> Bool {
        frames.isEmpty || (frames.count < room.frames && bytes + size <= room.bytes)
    }

    private func append(_ frame: UnsafeRawBufferPointer) -> chanserv_status {
        guard frame.count <= 104_857_600 else { return chanserv_status(CHANSERV_ERROR_TOO_LARGE) }
        guard hasRoom(frame.count) else { return chanserv_status(CHANSERV_FULL) }
        frames.append([UInt8](frame))
        bytes += frame.count
        return chanserv_status(CHANSERV_READY)
    }

    private func reserve(_ minimum: Int, _ capacity: UnsafeMutablePointer<Int>?) -> UnsafeMutableRawPointer? {
        guard minimum <= 104_857_600, hasRoom(minimum) else { return nil }
        largestReservation = max(largestReservation, minimum)
        let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: minimum, alignment: 1)
        if let reservation {
            larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: reservation.prefix(minimum)))
            reservation.deallocate()
        }
        reservation = larger
        capacity?.pointee = minimum
        return larger.baseAddress
    }

    private func commit(_ size: Int) -> chanserv_status {
        guard let reservation, size <= reservation.count else { fatalError("commit of more than was reserved") }
        defer {
            reservation.deallocate()
            self.reservation = nil
        }
        frames.append([UInt8](reservation.prefix(size)))
        bytes += size
        return chanserv_status(CHANSERV_READY)
    }
}

/// A source sink; what it took is the test's to close.
final class SourceSink {
    private struct Box {
        var sink: chanserv_source_sink
        var owner: Unmanaged<SourceSink>
    }

    private let limit: Int
    private let box: UnsafeMutablePointer<Box>
    private let whenFull: () -> Void
    private(set) var sources: [(header: [UInt8], source: OpaquePointer)] = []

    init(limit: Int, wake: UInt64, whenFull: @escaping () -> Void) {
        self.limit = limit
        self.whenFull = whenFull
        box = .allocate(capacity: 1)
        let sink = chanserv_source_sink(
            struct_size: UInt32(MemoryLayout<chanserv_source_sink>.size), reserved: 0, wake: wake,
            add: { sink, header, size, source in
                let owner = UnsafeMutableRawPointer(sink!).assumingMemoryBound(to: Box.self).pointee.owner
                    .takeUnretainedValue()
                return owner.add(UnsafeRawBufferPointer(start: header, count: size), source!)
            })
        box.initialize(to: Box(sink: sink, owner: .passUnretained(self)))
    }

    deinit {
        box.deallocate()
    }

    func poll(_ body: (UnsafeMutablePointer<chanserv_source_sink>) -> chanserv_status) -> chanserv_status {
        UnsafeMutableRawPointer(box).withMemoryRebound(to: chanserv_source_sink.self, capacity: 1, body)
    }

    private func add(_ header: UnsafeRawBufferPointer, _ source: OpaquePointer) -> chanserv_status {
        guard sources.count < limit else {
            whenFull()
            return chanserv_status(CHANSERV_FULL)
        }
        sources.append(([UInt8](header), source))
        return chanserv_status(CHANSERV_READY)
    }
}
