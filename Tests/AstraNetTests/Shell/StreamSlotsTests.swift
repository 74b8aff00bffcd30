import AstraNet
import Testing

@Suite struct StreamSlotsTests {
    private final class Entry: AddressedByOps {
        let key: StreamTable.Key

        init(_ number: Int) {
            key = StreamTable.Key(
                remote: Address(host: HostID(rawValue: UInt64(number % 5)), port: UInt32(number % 11)),
                localPort: UInt32(number / 55))
        }

        init(as key: StreamTable.Key) {
            self.key = key
        }
    }

    /// Few enough keys that most are near each other in the table, and enough steps that each is inserted and removed
    /// often.
    @Test(arguments: [1, 10, 100, 1_000, 10_000])
    func `the table behaves like a dictionary in random operations`(names: Int) {
        let entries = (0..<names).map(Entry.init)
        var slots = StreamSlots<Entry>()
        var model: [StreamTable.Key: Entry] = [:]
        var random = SystemRandomNumberGenerator()
        // Fills, empties and fills the table again, always with some of the opposite operations.
        for tenthsOfInserts in [8, 2, 5, 8, 1] {
            for _ in 0..<names * 3 {
                let key = entries.randomElement(using: &random)!.key
                if Int.random(in: 0..<10, using: &random) < tenthsOfInserts {
                    let new = Entry(as: key)
                    #expect(slots.insert(new) === model.updateValue(new, forKey: key))
                } else {
                    slots.remove(key)
                    model[key] = nil
                }
            }
            #expect(slots.count == model.count)
            #expect(entries.allSatisfy { slots[$0.key] === model[$0.key] })
            #expect(Set(slots.all.map(ObjectIdentifier.init)) == Set(model.values.map(ObjectIdentifier.init)))
        }
        for entry in entries { slots.remove(entry.key) }
        #expect(slots.count == 0 && Array(slots.all).isEmpty)
    }

    /// An entry that counts reads of its key.
    private final class CountedEntry: AddressedByOps {
        nonisolated(unsafe) static var reads = 0
        private let name: StreamTable.Key

        init(_ name: StreamTable.Key) {
            self.name = name
        }

        var key: StreamTable.Key {
            Self.reads += 1
            return name
        }
    }

    /// A peer chooses host and ports. Without the secret hash key it must not be able to choose colliding keys.
    @Test func `keys that differ in a few bits are found after a few probes`() {
        let count = 10_000
        let patterns: [(Int) -> (host: Int, remote: Int, local: Int)] = [
            { (1, $0, 7) }, { (1, 7, $0) }, { ($0, 7, 7) }, { (1, $0, $0) }, { (1, $0, count - $0) },
            { (1, $0 << 16, 7) }, { (1, 7, $0 << 18) }, { ($0 << 48, 7, 7) }, { ($0, $0, $0) },
        ]
        for pattern in patterns {
            let names = (0..<count).map { number in
                let (host, remote, local) = pattern(number)
                return StreamTable.Key(
                    remote: Address(
                        host: HostID(rawValue: UInt64(host)), port: UInt32(truncatingIfNeeded: remote)),
                    localPort: UInt32(truncatingIfNeeded: local))
            }
            var slots = StreamSlots<CountedEntry>()
            for name in names { slots.insert(CountedEntry(name)) }
            CountedEntry.reads = 0
            for name in names { #expect(slots[name] != nil) }
            // With a load factor of 3/4, linear probing needs 2.5 probes on average.
            #expect(CountedEntry.reads < 4 * count)
        }
    }
}
