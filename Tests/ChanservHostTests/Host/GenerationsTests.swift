import Testing

@testable import ChanservHost

@Suite struct GenerationsTests {
    typealias Ledger = Generations<String, Int>

    @Test func requestsGetTheCurrentInstanceAndAreCountedForTheirGeneration() {
        var ledger = Ledger()
        #expect(ledger.current.number == 0)
        #expect(ledger.lead("x") == nil)
        equal(ledger.publish(["x": 1]), [])
        #expect(ledger.lead("x") == Ledger.Lead(generation: 1, instance: 1))
        equal(ledger.publish(["x": 1, "y": 2]), [])
        #expect(ledger.lead("x") == Ledger.Lead(generation: 2, instance: 1))
    }

    @Test func `an instance that no route names is released by the swap`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        equal(ledger.publish(["x": 2]), [.release(1)])
        #expect(ledger.lead("x") == Ledger.Lead(generation: 2, instance: 2))
        #expect(ledger.draining.isEmpty)
    }

    @Test func `an instance drains until the last route that leads to it has left`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1, "y": 1, "z": 1])
        equal(ledger.publish(["z": 2]), [.drain(1)])
        #expect(ledger.draining == [1])
        equal(ledger.left("y"), nil)
        #expect(ledger.draining == [1])
        equal(ledger.left("x"), .release(1))
        #expect(ledger.draining.isEmpty)
    }

    @Test func anInstanceThatStaysIsNeitherDrainedNorReleased() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1, "y": 7])
        equal(ledger.publish(["x": 2, "y": 7]), [.release(1)])
        equal(ledger.publish(["x": 2]), [.drain(7)])
        _ = ledger.publish(["x": 2, "z": 2])
        equal(ledger.publish(["x": 2]), [])
        // A route of an instance that stays has left.
        equal(ledger.left("z"), nil)
        #expect(ledger.draining == [7])
    }

    @Test func aLeavingRouteServesRequestsAcceptedBeforeUntilItHasLeft() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        equal(ledger.publish([:]), [.drain(1)])
        #expect(ledger.lead("x") == Ledger.Lead(generation: 2, instance: 1))
        equal(ledger.left("x"), .release(1))
        #expect(ledger.lead("x") == nil)
        equal(ledger.left("x"), nil)
    }

    @Test func anArrivingRouteServesAsTheNextGenerationBeforeTheSwap() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        ledger.prepare("y", 2)
        #expect(ledger.lead("y") == Ledger.Lead(generation: 2, instance: 2))
        #expect(ledger.current.routes == ["x": 1])
        equal(ledger.publish(["x": 1, "y": 2]), [])
        #expect(ledger.lead("y") == Ledger.Lead(generation: 2, instance: 2))
        equal(ledger.publish(["x": 1]), [.drain(2)])
        equal(ledger.left("y"), .release(2))
    }

    @Test func anAbandonedRouteServesNobody() {
        var ledger = Ledger()
        ledger.prepare("y", 2)
        ledger.abandon("y")
        #expect(ledger.lead("y") == nil)
        ledger.prepare("y", 2)
        _ = ledger.publish([:])
        #expect(ledger.lead("y") == nil)
    }

    @Test func aRouteThatComesBackIsAnotherRouteBesideTheLeavingOne() {
        var ledger = Ledger()
        _ = ledger.publish(["x#1": 1])
        _ = ledger.publish([:])
        _ = ledger.publish(["x#2": 2])
        #expect(ledger.lead("x#1")?.instance == 1)
        #expect(ledger.lead("x#2")?.instance == 2)
    }

    /// Random histories: an instance is released exactly once, when no route leads to it.
    @Test(arguments: 0..<200) func `no instance is released while a route leads to it, and all are in the end`(
        seed: UInt64
    ) {
        var random = SplitMix(state: seed)
        var ledger = Ledger()
        var leaving: Set<String> = []
        var created: Set<Int> = []
        var released: Set<Int> = []
        var drained: Set<Int> = []

        func apply(_ actions: [Ledger.Action]) {
            for action in actions {
                switch action {
                case .drain(let instance):
                    equal(drained.insert(instance).inserted, true)
                    #expect(!released.contains(instance))
                case .release(let instance):
                    equal(released.insert(instance).inserted, true)
                    #expect(!ledger.current.routes.values.contains(instance))
                    #expect(!leaving.contains { ledger.lead($0)?.instance == instance })
                }
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
            let gone = Set(ledger.current.routes.keys).subtracting(routes.keys)
            let actions = ledger.publish(routes)
            leaving.formUnion(gone)
            apply(actions)
        }
        for _ in 0..<100 {
            switch random.next() % 3 {
            case 0: publish(3)
            case 1:
                guard let route = leaving.sorted().first else { continue }
                leaving.remove(route)
                apply([ledger.left(route)].compactMap { $0 })
            default:
                let routes = ledger.current.routes.keys.sorted() + leaving.sorted()
                guard let route = routes.randomElement(using: &random) else { continue }
                let lead = ledger.lead(route)
                #expect(lead?.generation == ledger.current.number)
                #expect(lead.map { released.contains($0.instance) } == false)
            }
        }
        publish(0)
        for route in leaving.sorted() {
            leaving.remove(route)
            apply([ledger.left(route)].compactMap { $0 })
        }
        #expect(released == created)
        #expect(ledger.draining.isEmpty)
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
