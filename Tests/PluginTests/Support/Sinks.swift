import CChanservPlugin
import Foundation

/// The capacity of a sink in one poll.
struct Room: Sendable {
    var frames = Int.max
    var bytes = 1 << 20
    /// Whether the sink has the size of version 1.0, without `lend`.
    var isVersion10 = false

    static let one = Room(frames: 1)
}

/// The result of a poll.
struct Answer<Item> {
    var status: chanserv_status
    var items: [Item]
    var message: String
    /// The size of the largest reservation, in bytes.
    var largestReservation = 0
    /// The number of lent frames.
    var lent = 0
}

/// A frame that a plugin lent: its original content, and its release function.
struct LentFrame {
    let bytes: UnsafeRawBufferPointer
    let copy: [UInt8]
    let release: @convention(c) (UnsafeMutableRawPointer?) -> Void
    let context: UnsafeMutableRawPointer?

    /// Releases the frame. Its memory must not have changed since it was lent.
    func end() {
        guard bytes.elementsEqual(copy) else { fatalError("lent memory was changed before its release") }
        release(context)
    }
}

/// `sizeof(struct chanserv_frame_sink)` in version 1.0.
private let sizeOfFrameSink10: UInt32 = 40

/// A frame sink that allows no more than the ABI requires: each reservation has exactly the requested size, and moves
/// when it grows.
final class FrameSink {
    private let room: Room
    private let table: UnsafeMutablePointer<chanserv_frame_sink>
    private(set) var lent: [LentFrame] = []
    private(set) var frames: [[UInt8]] = []
    private(set) var largestReservation = 0
    private var bytes = 0
    private var reservation: UnsafeMutableRawBufferPointer?

    init(_ room: Room, wake: UInt64) {
        self.room = room
        table = .allocate(capacity: 1)
        table.initialize(to: chanserv_frame_sink())
        table.pointee.struct_size =
            room.isVersion10 ? sizeOfFrameSink10 : UInt32(MemoryLayout<chanserv_frame_sink>.size)
        table.pointee.wake = wake
        table.pointee.append = { FrameSink.of($0).append(UnsafeRawBufferPointer(start: $1, count: $2)) }
        table.pointee.reserve = { FrameSink.of($0).reserve($1, $2) }
        table.pointee.commit = { FrameSink.of($0).commit($1) }
        if room.isVersion10 {
            // Memory behind the end of a sink of version 1.0, which a plugin must not use.
            table.pointee.lend = { _, _, _, _, _ in fatalError("a sink of version 1.0 has no lend") }
        } else {
            table.pointee.lend = {
                FrameSink.of($0).lend(UnsafeRawBufferPointer(start: $1, count: $2), $3!, $4)
            }
        }
        table.pointee.context = Unmanaged.passUnretained(self).toOpaque()
    }

    deinit {
        reservation?.deallocate()
        table.deallocate()
    }

    private static func of(_ table: UnsafeMutablePointer<chanserv_frame_sink>?) -> FrameSink {
        Unmanaged<FrameSink>.fromOpaque(table!.pointee.context).takeUnretainedValue()
    }

    /// Runs a poll with this sink.
    func poll(_ body: (UnsafeMutablePointer<chanserv_frame_sink>) -> chanserv_status) -> chanserv_status {
        let status = body(table)
        // Detects a plugin that uses the sink after the poll.
        table.pointee.append = { _, _, _ in fatalError("the sink is used after its poll") }
        table.pointee.lend = { _, _, _, _, _ in fatalError("the sink is used after its poll") }
        return status
    }

    private func lend(
        _ frame: UnsafeRawBufferPointer, _ release: @escaping @convention(c) (UnsafeMutableRawPointer?) -> Void,
        _ context: UnsafeMutableRawPointer?
    ) -> chanserv_status {
        let status = append(frame)
        if status == ready {
            lent.append(LentFrame(bytes: frame, copy: [UInt8](frame), release: release, context: context))
        }
        return status
    }

    private func hasCapacity(_ size: Int) -> Bool {
        frames.isEmpty || (frames.count < room.frames && bytes + size <= room.bytes)
    }

    private func append(_ frame: UnsafeRawBufferPointer) -> chanserv_status {
        guard frame.count <= 104_857_600 else { return chanserv_status(CHANSERV_ERROR_TOO_LARGE) }
        guard hasCapacity(frame.count) else { return chanserv_status(CHANSERV_FULL) }
        frames.append([UInt8](frame))
        bytes += frame.count
        return chanserv_status(CHANSERV_READY)
    }

    private func reserve(_ minimum: Int, _ capacity: UnsafeMutablePointer<Int>?) -> UnsafeMutableRawPointer? {
        guard minimum <= 104_857_600, hasCapacity(minimum) else { return nil }
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

/// A source sink. The test must close the sources that it took.
final class SourceSink {
    private let limit: Int
    private let table: UnsafeMutablePointer<chanserv_source_sink>
    private let whenFull: () -> Void
    private(set) var sources: [(header: [UInt8], source: OpaquePointer)] = []

    init(limit: Int, wake: UInt64, whenFull: @escaping () -> Void) {
        self.limit = limit
        self.whenFull = whenFull
        table = .allocate(capacity: 1)
        table.initialize(to: chanserv_source_sink())
        table.pointee.struct_size = UInt32(MemoryLayout<chanserv_source_sink>.size)
        table.pointee.wake = wake
        table.pointee.add = { table, header, size, source in
            Unmanaged<SourceSink>.fromOpaque(table!.pointee.context).takeUnretainedValue()
                .add(UnsafeRawBufferPointer(start: header, count: size), source!)
        }
        table.pointee.context = Unmanaged.passUnretained(self).toOpaque()
    }

    deinit {
        table.deallocate()
    }

    func poll(_ body: (UnsafeMutablePointer<chanserv_source_sink>) -> chanserv_status) -> chanserv_status {
        body(table)
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
