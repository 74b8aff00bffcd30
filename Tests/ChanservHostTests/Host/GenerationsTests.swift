import Testing

@testable import ChanservHost

@Suite struct GenerationsTests {
    typealias Ledger = Generations<String, Int>

    @Test func requestsGetTheCurrentInstanceAndAreCountedForTheirGeneration() throws {
        var ledger = Ledger()
        #expect(ledger.current.number == 0)
        equal(ledger.begin(on: "x"), nil)
        equal(ledger.publish(["x": 1]), [])
        let hold = try required(ledger.begin(on: "x"))
        #expect(hold == Ledger.Hold(generation: 1, instance: 1))
        #expect(ledger.requestsByGeneration == [1: 1])
        #expect(ledger.requests(holding: 1) == 1)
        equal(ledger.end(hold), nil)
        #expect(ledger.requestsByGeneration.isEmpty)
    }

    @Test func anInstanceNobodyHoldsIsReleasedByTheSwap() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        equal(ledger.publish(["x": 2]), [.release(1)])
        #expect(ledger.draining.isEmpty)
    }

    @Test func anInstanceDrainsUntilItsLastRequestHasEnded() throws {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        let first = try required(ledger.begin(on: "x"))
        let second = try required(ledger.begin(on: "x"))
        equal(ledger.publish(["x": 2]), [.drain(1)])
        let third = try required(ledger.begin(on: "x"))
        #expect(third == Ledger.Hold(generation: 2, instance: 2))
        #expect(ledger.requestsByGeneration == [1: 2, 2: 1])
        equal(ledger.end(second), nil)
        #expect(ledger.draining == [1])
        equal(ledger.end(first), .release(1))
        equal(ledger.end(third), nil)
        #expect(ledger.draining.isEmpty)
    }

    @Test func anInstanceThatStaysIsNeitherDrainedNorReleased() throws {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1, "y": 7])
        let hold = try required(ledger.begin(on: "y"))
        equal(ledger.publish(["x": 2, "y": 7]), [.release(1)])
        equal(ledger.end(hold), nil)
    }

    @Test func requestsOfSeveralGenerationsCanHoldOneInstance() throws {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        let old = try required(ledger.begin(on: "x"))
        _ = ledger.publish(["x": 1, "y": 2])
        let new = try required(ledger.begin(on: "x"))
        #expect(old.generation == 1 && new.generation == 2)
        #expect(ledger.requests(holding: 1) == 2)
        equal(ledger.publish(["y": 2]), [.drain(1)])
        equal(ledger.left("x"), nil)
        equal(ledger.end(old), nil)
        equal(ledger.end(new), .release(1))
    }

    @Test func aLeavingRouteServesRequestsAcceptedBeforeUntilItHasLeft() throws {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        equal(ledger.publish([:]), [.drain(1)])
        let late = try required(ledger.begin(on: "x"))
        #expect(late == Ledger.Hold(generation: 2, instance: 1))
        equal(ledger.left("x"), nil)
        equal(ledger.begin(on: "x"), nil)
        equal(ledger.end(late), .release(1))
    }

    @Test func aLeavingRouteWithoutRequestsReleasesItsInstance() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        _ = ledger.publish([:])
        equal(ledger.left("x"), .release(1))
        equal(ledger.left("x"), nil)
    }

    @Test func anArrivingRouteServesAsTheNextGenerationBeforeTheSwap() throws {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        ledger.prepare("y", 2)
        let early = try required(ledger.begin(on: "y"))
        #expect(early == Ledger.Hold(generation: 2, instance: 2))
        #expect(ledger.current.routes == ["x": 1])
        equal(ledger.publish(["x": 1, "y": 2]), [])
        equal(ledger.end(early), nil)
        equal(ledger.publish(["x": 1]), [.drain(2)])
        equal(ledger.left("y"), .release(2))
    }

    @Test func anAbandonedRouteServesNobody() {
        var ledger = Ledger()
        ledger.prepare("y", 2)
        ledger.abandon("y")
        equal(ledger.begin(on: "y"), nil)
        ledger.prepare("y", 2)
        _ = ledger.publish([:])
        equal(ledger.begin(on: "y"), nil)
    }

    @Test func aRouteThatComesBackIsAnotherRouteBesideTheLeavingOne() {
        var ledger = Ledger()
        _ = ledger.publish(["x#1": 1])
        _ = ledger.publish([:])
        _ = ledger.publish(["x#2": 2])
        equal(ledger.begin(on: "x#1")?.instance, 1)
        equal(ledger.begin(on: "x#2")?.instance, 2)
    }

    /// Random histories: an instance is released exactly once, when no route names it and no request holds it.
    @Test(arguments: 0..<200) func noInstanceIsReleasedWhileHeldAndAllAreInTheEnd(seed: UInt64) {
        var random = SplitMix(state: seed)
        var ledger = Ledger()
        var holds: [Ledger.Hold] = []
        var leaving: Set<String> = []
        var created: Set<Int> = []
        var released: Set<Int> = []

        func apply(_ actions: [Ledger.Action]) {
            for case .release(let instance) in actions {
                equal(released.insert(instance).inserted, true)
                #expect(!holds.contains { $0.instance == instance })
                #expect(!ledger.current.routes.values.contains(instance))
            }
        }
        var next = 0
        func publish(_ count: Int) {
            var routes: [String: Int] = [:]
            for (route, instance) in ledger.current.routes.sorted(by: { $0.key < $1.key }) where random.chance(count) {
                routes[route] = random.chance(2) ? instance : next + 1
            }
            if count > 0 { routes["r\(next)"] = next + 1 }
            if routes.values.contains(next + 1) {
                next += 1
                created.insert(next)
            }
            leaving.formUnion(Set(ledger.current.routes.keys).subtracting(routes.keys))
            apply(ledger.publish(routes))
        }
        for _ in 0..<100 {
            switch random.next() % 4 {
            case 0: publish(3)
            case 1:
                guard let route = leaving.sorted().first else { continue }
                leaving.remove(route)
                apply([ledger.left(route)].compactMap { $0 })
            case 2:
                let routes = ledger.current.routes.keys.sorted() + leaving.sorted()
                guard let route = routes.randomElement(using: &random) else { continue }
                if let hold = ledger.begin(on: route) {
                    #expect(!released.contains(hold.instance))
                    holds.append(hold)
                }
            default:
                guard let index = holds.indices.randomElement(using: &random) else { continue }
                let hold = holds.remove(at: index)
                apply([ledger.end(hold)].compactMap { $0 })
            }
        }
        publish(0)
        for route in leaving { apply([ledger.left(route)].compactMap { $0 }) }
        while let hold = holds.popLast() { apply([ledger.end(hold)].compactMap { $0 }) }
        #expect(released == created)
        #expect(ledger.draining.isEmpty && ledger.requestsByGeneration.isEmpty)
    }
}

private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// True `in - 1` times out of `in`; never for 0.
    mutating func chance(_ outOf: Int) -> Bool {
        outOf > 0 && next() % UInt64(outOf) != 0
    }
}
