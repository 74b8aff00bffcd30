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
}
