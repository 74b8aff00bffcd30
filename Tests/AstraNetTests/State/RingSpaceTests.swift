import Testing

@testable import AstraNet

/// Every sequence of steps on small rings, beside the list of what is taken.
@Suite struct RingSpaceTests {
    /// A ring and what must be true of it.
    private struct Watched: Hashable {
        var space: RingSpace
        /// Which bytes are whose, the oldest first.
        var taken: [Range<Int>] = []

        mutating func take(_ count: Int) -> Bool {
            guard let start = space.take(count) else { return false }
            let new = start..<start + count
            #expect(new.lowerBound >= 0 && new.upperBound <= space.size, "\(new) is not in the ring: \(self)")
            for other in taken { #expect(!new.overlaps(other), "\(new) is another's: \(self)") }
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
    func noSequenceOfStepsGivesAByteToTwo(size: Int) {
        var known: Set<Watched> = []
        var open = [Watched(space: RingSpace(size: size))]
        while let ring = open.popLast() {
            guard known.insert(ring).inserted else { continue }
            for count in 1...size + 1 {
                var next = ring
                let isTaken = next.take(count)
                if isTaken { open.append(next) } else { #expect(next == ring) }
                // Nobody is refused what is there, wherever the last ones were.
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

    @Test func nothingIsTakenWhereNothingIsAskedFor() {
        var space = RingSpace(size: 4)
        #expect(space.take(0) == nil)
        #expect(space.take(-1) == nil)
        #expect(space == RingSpace(size: 4))
    }
}
