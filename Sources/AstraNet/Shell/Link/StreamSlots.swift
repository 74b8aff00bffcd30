/// What an op's addresses name.
protocol AddressedByOps: AnyObject {
    var key: StreamTable.Key { get }
}

/// Streams by what names them, eight bytes for each place: the name is looked up in the stream itself.
///
/// Open addressing with linear probing. Peers choose the names, so where one belongs comes from a hash with a secret key.
struct StreamSlots<Stream: AddressedByOps> {
    /// A power of two of places, of which at most three in four are taken: there is always an empty one to end a search.
    private var slots: [Stream?] = []
    private(set) var count = 0
    private let key = SlotKey()

    private static var minimumSlots: Int { 16 }

    subscript(key: StreamTable.Key) -> Stream? {
        guard count > 0 else { return nil }
        return slots[slot(of: key)]
    }

    /// - Returns: the stream whose place it took.
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
        // Those behind it move up until there is one that is nearer to where it belongs than the gap.
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
        // A link that had a million streams once does not keep their places.
        if slots.count > Self.minimumSlots, count * 8 < slots.count { resize(to: slots.count / 4) }
    }

    var all: some Sequence<Stream> { slots.lazy.compactMap { $0 } }

    /// Where the stream with this name is, or else the empty place where it would be.
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

/// The secret key of the hash of names, and the hash: two multiplications whose halves are folded, as in wyhash. `Hasher` takes
/// ten times as many instructions, and each op looks up its stream.
private struct SlotKey {
    private let host: UInt64
    private let ports: UInt64
    private let multiplier: UInt64

    /// Derives the key from the standard library's, which is drawn anew in each process. A simulation fixes that one.
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
