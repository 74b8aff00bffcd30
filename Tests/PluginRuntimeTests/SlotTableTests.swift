import PluginRuntime
import Testing

@Suite("Slot table")
struct SlotTableTests {
    @Test func `a handle finds its entry until the entry is removed`() {
        var table = SlotTable<String>()
        let first = table.insert("first")
        let second = table.insert("second")
        #expect(table[first] == "first")
        #expect(table[second] == "second")
        let removed = [table.remove(first), table.remove(first)]
        #expect(removed == ["first", nil])
        #expect(table[first] == nil)
        #expect(table[second] == "second")
        #expect(table.count == 1)
    }

    @Test func `a slot that is used again has another handle`() {
        var table = SlotTable<Int>()
        var seen: Set<UInt64> = []
        for number in 0..<1000 {
            let handle = table.insert(number)
            #expect(seen.insert(handle).inserted)
            let removed = table.remove(handle)
            #expect(removed == number)
        }
        for handle in seen { #expect(table[handle] == nil) }
    }

    @Test func `handles that were never issued find nothing`() {
        var table = SlotTable<Int>()
        #expect(table[0] == nil)
        let handle = table.insert(1)
        for other in [0, 1, UInt64.max, handle + 1, handle ^ 1 << 32, handle ^ 1 << 63] { #expect(table[other] == nil) }
    }
}
