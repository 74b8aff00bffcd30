import AstraNet
import Testing

/// Explores every sequence of steps on small rings and compares it with a list of the allocated ranges.
@Suite struct RingSpaceTests {
    /// A ring with a list of its allocated ranges.
    private struct CheckedRing: Hashable {
        var space: RingSpace
        /// The allocated ranges, the oldest first.
        var taken: [Range<Int>] = []

        mutating func take(_ count: Int) -> Bool {
            guard let start = space.take(count) else { return false }
            let new = start..<start + count
            #expect(new.lowerBound >= 0 && new.upperBound <= space.size, "\(new) is not in the ring: \(self)")
            for other in taken { #expect(!new.overlaps(other), "\(new) is already allocated: \(self)") }
            taken.append(new)
            return true
        }

        mutating func giveBack(_ count: Int) {
            let isKnown = count <= taken.count
            let before = space
            #expect(space.giveBack(count) == isKnown)
            if isKnown { taken.removeFirst(count) } else { #expect(space == before) }
        }
    }

    @Test(arguments: 1...7)
    func `no sequence of steps allocates a byte twice`(size: Int) {
        var known: Set<CheckedRing> = []
        var open = [CheckedRing(space: RingSpace(size: size))]
        while let ring = open.popLast() {
            guard known.insert(ring).inserted else { continue }
            for count in 1...size + 1 {
                var next = ring
                let isTaken = next.take(count)
                if isTaken { open.append(next) } else { #expect(next == ring) }
                // An empty ring gives all of its space, wherever the last allocation was.
                if ring.taken.isEmpty { #expect(isTaken == (count <= size)) }
            }
            for count in 0...ring.taken.count + 1 {
                var next = ring
                next.giveBack(count)
                open.append(next)
            }
        }
        #expect(known.count > size)
    }

    @Test func `an allocation of no bytes is refused`() {
        var space = RingSpace(size: 4)
        #expect(space.take(0) == nil)
        #expect(space.take(-1) == nil)
        #expect(space == RingSpace(size: 4))
    }
}
