internal import NIOConcurrencyHelpers

/// Table of entries under integer handles that are never reused. The low 32 bits are the slot, the high 32 bits its
/// generation.
///
/// A handle of a removed entry finds nothing, even if another entry uses the slot.
package struct SlotTable<Element: Sendable>: Sendable {
    private struct Slot {
        /// Incremented when the entry is removed. It starts at 1, so 0 is never a valid handle.
        var generation: UInt32
        var element: Element?
    }

    private var slots: [Slot] = []
    private var free: [UInt32] = []

    package init() {}

    /// Number of entries.
    package private(set) var count = 0

    /// Adds an entry and returns its handle.
    package mutating func insert(_ element: Element) -> UInt64 {
        count += 1
        if let index = free.popLast() {
            slots[Int(index)].element = element
            return UInt64(slots[Int(index)].generation) << 32 | UInt64(index)
        }
        precondition(slots.count < Int(UInt32.max), "four thousand million entries at once")
        slots.append(Slot(generation: 1, element: element))
        return 1 << 32 | UInt64(slots.count - 1)
    }

    /// Returns the entry, or `nil` if the handle is not valid or no longer valid.
    package subscript(handle: UInt64) -> Element? {
        let index = Int(handle & 0xFFFF_FFFF)
        guard index < slots.count, slots[index].generation == UInt32(handle >> 32) else { return nil }
        return slots[index].element
    }

    /// Removes and returns the entry, or returns `nil` if there is none.
    package mutating func remove(_ handle: UInt64) -> Element? {
        guard let element = self[handle] else { return nil }
        let index = Int(handle & 0xFFFF_FFFF)
        slots[index].element = nil
        count -= 1
        // A slot with exhausted generations is not used again, so a handle is never reused.
        if slots[index].generation < .max {
            slots[index].generation += 1
            free.append(UInt32(index))
        }
        return element
    }
}

/// Table of the polled objects that can be woken, for the whole process. It has shards so that threads of plugins
/// rarely contend.
///
/// All instances share it, because `host->wake` may be called with any handle for the lifetime of the process.
enum WakeTable {
    private static let shardBits = 4
    private static let shards = (0..<1 << shardBits).map { _ in NIOLockedValueBox(SlotTable<PolledObject>()) }

    /// Adds an object and keeps it alive until ``remove(_:)``. Returns its handle.
    static func insert(_ object: PolledObject) -> UInt64 {
        // Objects close in memory, such as the sources of one call, should go to different shards.
        let shard = UInt(bitPattern: ObjectIdentifier(object).hashValue) & UInt(shards.count - 1)
        let handle = shards[Int(shard)].withLockedValue { $0.insert(object) }
        // The number of the shard is stored in the top bits of the slot number, which the precondition keeps free.
        precondition(handle & 0xFFFF_FFFF < 1 << (32 - shardBits), "too many polled objects")
        return handle | UInt64(shard) << (32 - shardBits)
    }

    static func remove(_ handle: UInt64) {
        let (shard, handle) = split(handle)
        _ = shards[shard].withLockedValue { $0.remove(handle) }
    }

    /// Wakes the object. Does nothing if the handle is not valid or no longer valid.
    static func wake(_ handle: UInt64) {
        let (shard, handle) = split(handle)
        shards[shard].withLockedValue { $0[handle] }?.receivedWake()
    }

    /// Number of objects, for tests and counters.
    static var count: Int { shards.reduce(0) { $0 + $1.withLockedValue { $0.count } } }

    private static func split(_ handle: UInt64) -> (shard: Int, handle: UInt64) {
        let shard = Int(handle >> (32 - shardBits)) & (shards.count - 1)
        return (shard, handle & ~(UInt64(shards.count - 1) << (32 - shardBits)))
    }
}
