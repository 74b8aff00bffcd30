import Testing

@testable import AstraNet

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

    /// So few names that most are near each other, and so many steps that all of them are taken and given up often.
    @Test(arguments: [1, 10, 100, 1_000, 10_000])
    func theyKeepWhatADictionaryKeeps(names: Int) {
        let entries = (0..<names).map(Entry.init)
        var slots = StreamSlots<Entry>()
        var model: [StreamTable.Key: Entry] = [:]
        var random = SystemRandomNumberGenerator()
        // Filled, emptied, and filled again, with some of the other in between.
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

    /// Counts how often its name is looked at.
    private final class CountedEntry: AddressedByOps {
        nonisolated(unsafe) static var looks = 0
        private let name: StreamTable.Key

        init(_ name: StreamTable.Key) {
            self.name = name
        }

        var key: StreamTable.Key {
            Self.looks += 1
            return name
        }
    }

    /// A peer picks host and ports. What it can write down without the secret key must not end in one place.
    @Test func `names that differ in a few bits only are found after a few looks`() {
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
            CountedEntry.looks = 0
            for name in names { #expect(slots[name] != nil) }
            // At three places in four taken, linear probing takes 2.5 looks on average.
            #expect(CountedEntry.looks < 4 * count)
        }
    }
}
