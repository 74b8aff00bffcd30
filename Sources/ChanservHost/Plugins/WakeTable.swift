internal import NIOConcurrencyHelpers

/// Entries under integer handles that are never used again: a slot's number below, its generation above.
///
/// A handle that is held longer than its entry finds nothing, whoever has the slot now.
package struct SlotTable<Element: Sendable>: Sendable {
    private struct Slot {
        /// Counted up when the entry is removed; never 0 in use, so 0 is no handle.
        var generation: UInt32
        var element: Element?
    }

    private var slots: [Slot] = []
    private var free: [UInt32] = []

    package init() {}

    /// How many entries there are.
    package private(set) var count = 0

    /// Adds an entry.
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

    /// The entry, `nil` where it was removed or never was.
    package subscript(handle: UInt64) -> Element? {
        let index = Int(handle & 0xFFFF_FFFF)
        guard index < slots.count, slots[index].generation == UInt32(handle >> 32) else { return nil }
        return slots[index].element
    }

    /// Removes the entry if it is there.
    package mutating func remove(_ handle: UInt64) -> Element? {
        guard let element = self[handle] else { return nil }
        let index = Int(handle & 0xFFFF_FFFF)
        slots[index].element = nil
        count -= 1
        // A slot whose generations are used up is given up: a handle is never used twice.
        if slots[index].generation < .max {
            slots[index].generation += 1
            free.append(UInt32(index))
        }
        return element
    }
}

/// The process's table of who is to be woken, in shards so that plugins' threads seldom meet.
///
/// There is one for all instances: `host->wake` may be called with any handle for as long as the process lives.
enum WakeTable {
    private static let shardBits = 4
    private static let shards = (0..<1 << shardBits).map { _ in NIOLockedValueBox(SlotTable<PolledObject>()) }

    /// Adds an object. It stays alive until ``remove(_:)``.
    static func insert(_ object: PolledObject) -> UInt64 {
        // Neighbours in memory, such as the sources of one call, are to meet in different shards.
        let shard = UInt(bitPattern: ObjectIdentifier(object).hashValue) & UInt(shards.count - 1)
        let handle = shards[Int(shard)].withLockedValue { $0.insert(object) }
        // The shard's number goes into the top of the slot's, which has more bits than there can be entries.
        precondition(handle & 0xFFFF_FFFF < 1 << (32 - shardBits), "too many polled objects")
        return handle | UInt64(shard) << (32 - shardBits)
    }

    static func remove(_ handle: UInt64) {
        let (shard, handle) = split(handle)
        _ = shards[shard].withLockedValue { $0.remove(handle) }
    }

    /// Wakes the object; nothing where the handle is no longer, or never was, one.
    static func wake(_ handle: UInt64) {
        let (shard, handle) = split(handle)
        shards[shard].withLockedValue { $0[handle] }?.receivedWake()
    }

    /// How many objects there are, for tests and counters.
    static var count: Int { shards.reduce(0) { $0 + $1.withLockedValue { $0.count } } }

    private static func split(_ handle: UInt64) -> (shard: Int, handle: UInt64) {
        let shard = Int(handle >> (32 - shardBits)) & (shards.count - 1)
        return (shard, handle & ~(UInt64(shards.count - 1) << (32 - shardBits)))
    }
}
