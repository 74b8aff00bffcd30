/// An object that ops refer to by a key of addresses.
protocol AddressedByOps: AnyObject {
    var key: StreamTable.Key { get }
}

/// A hash table of streams by key, with 8 bytes for each slot. The key is stored only in the stream.
///
/// It uses open addressing with linear probing. Peers choose the keys, so the hash has a secret key.
struct StreamSlots<Stream: AddressedByOps> {
    /// The slots, a power of two. At most three in four are used, so that each search ends at an empty slot.
    private var slots: [Stream?] = []
    private(set) var count = 0
    private let key = SlotKey()

    private static var minimumSlots: Int { 16 }

    subscript(key: StreamTable.Key) -> Stream? {
        guard count > 0 else { return nil }
        return slots[slot(of: key)]
    }

    /// - Returns: the stream with the same key that it replaced.
    @discardableResult
    mutating func insert(_ stream: Stream) -> Stream? {
        if (count + 1) * 4 > slots.count * 3 { resize(to: max(Self.minimumSlots, slots.count * 2)) }
        let slot = slot(of: stream.key)
        let old = slots[slot]
        slots[slot] = stream
        if old == nil { count += 1 }
        return old
    }

    mutating func remove(_ key: StreamTable.Key) {
        guard count > 0 else { return }
        var gap = slot(of: key)
        guard slots[gap] != nil else { return }
        count -= 1
        // Moves later streams into the gap, unless a stream's home slot is behind the gap.
        let mask = slots.count - 1
        var next = (gap + 1) & mask
        while let stream = slots[next] {
            let home = self.key.hash(of: stream.key) & mask
            if (next - home) & mask >= (next - gap) & mask {
                slots[gap] = stream
                gap = next
            }
            next = (next + 1) & mask
        }
        slots[gap] = nil
        // Shrinks, so that a link that once had a million streams does not keep their slots.
        if slots.count > Self.minimumSlots, count * 8 < slots.count { resize(to: slots.count / 4) }
    }

    var all: some Sequence<Stream> { slots.lazy.compactMap { $0 } }

    /// Returns the slot of the stream with this key, or the empty slot where it belongs.
    private func slot(of key: StreamTable.Key) -> Int {
        let mask = slots.count - 1
        var slot = self.key.hash(of: key) & mask
        while let stream = slots[slot], stream.key != key {
            slot = (slot + 1) & mask
        }
        return slot
    }

    private mutating func resize(to size: Int) {
        let old = slots
        slots = Array(repeating: nil, count: max(Self.minimumSlots, size))
        for case let stream? in old { slots[slot(of: stream.key)] = stream }
    }
}

/// A secret key and the hash of stream keys. The hash is two multiplications with folded halves, as in wyhash. `Hasher`
/// takes ten times as many instructions, and each op looks its stream up.
private struct SlotKey {
    private let host: UInt64
    private let ports: UInt64
    private let multiplier: UInt64

    /// Derives the key from the standard library's seed, which is new in each process. The simulation fixes that seed.
    init() {
        func word(_ index: Int) -> UInt64 { UInt64(truncatingIfNeeded: index.hashValue) }
        host = word(0)
        ports = word(1)
        multiplier = word(2) | 1
    }

    @inline(__always)
    func hash(of name: StreamTable.Key) -> Int {
        let ports = UInt64(name.remote.port) << 32 | UInt64(name.localPort)
        let folded = Self.fold(name.remote.host.rawValue &+ host, ports &+ self.ports)
        return Int(truncatingIfNeeded: Self.fold(folded, multiplier))
    }

    @inline(__always)
    private static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let product = a.multipliedFullWidth(by: b)
        return product.high ^ product.low
    }
}
