/// An object that the addresses of an op identify.
package protocol AddressedByOps: AnyObject {
    var key: StreamTable.Key { get }
}

/// A hash table of streams with eight bytes per slot. Slots do not store keys: the key is read from the stream.
///
/// It uses open addressing with linear probing. Peers choose the keys, so the hash has a secret key.
package struct StreamSlots<Element: AddressedByOps> {
    /// The slots. Their number is a power of two. At most three quarters are in use, so an empty slot ends each search.
    private var slots: [Element?] = []
    package private(set) var count = 0
    private let key = SlotKey()

    package init() {}

    private static var minimumSize: Int { 16 }

    package subscript(key: StreamTable.Key) -> Element? {
        guard count > 0 else { return nil }
        return slots[slot(of: key)]
    }

    /// Inserts a stream.
    ///
    /// - Returns: the stream that it replaced, if any.
    @discardableResult
    package mutating func insert(_ stream: Element) -> Element? {
        if (count + 1) * 4 > slots.count * 3 { resize(to: max(Self.minimumSize, slots.count * 2)) }
        let slot = slot(of: stream.key)
        let old = slots[slot]
        slots[slot] = stream
        if old == nil { count += 1 }
        return old
    }

    package mutating func remove(_ key: StreamTable.Key) {
        guard count > 0 else { return }
        var gap = slot(of: key)
        guard slots[gap] != nil else { return }
        count -= 1
        // Each later stream of the run moves into the gap unless its home slot comes after the gap.
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
        // The table shrinks so that a link does not keep the memory of a past peak.
        if slots.count > Self.minimumSize, count * 8 < slots.count { resize(to: slots.count / 4) }
    }

    package var all: some Sequence<Element> { slots.lazy.compactMap { $0 } }

    /// Returns the slot of the stream with this key, or the empty slot where it would be inserted.
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
        slots = Array(repeating: nil, count: max(Self.minimumSize, size))
        for case let stream? in old { slots[slot(of: stream.key)] = stream }
    }
}

/// A keyed hash function for stream keys: two multiplications whose halves are folded, as in wyhash.
///
/// Each op looks up its stream. `Hasher` takes ten times as many instructions.
private struct SlotKey {
    private let host: UInt64
    private let ports: UInt64
    private let multiplier: UInt64

    /// Derives the secret from the standard library's hash seed, which is random in each process. The simulation fixes
    /// that seed.
    init() {
        func word(_ index: Int) -> UInt64 { UInt64(truncatingIfNeeded: index.hashValue) }
        host = word(0)
        ports = word(1)
        multiplier = word(2) | 1
    }

    @inline(__always)
    func hash(of key: StreamTable.Key) -> Int {
        let ports = UInt64(key.remote.port) << 32 | UInt64(key.localPort)
        let folded = Self.fold(key.remote.host.rawValue &+ host, ports &+ self.ports)
        return Int(truncatingIfNeeded: Self.fold(folded, multiplier))
    }

    @inline(__always)
    private static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let product = a.multipliedFullWidth(by: b)
        return product.high ^ product.low
    }
}
