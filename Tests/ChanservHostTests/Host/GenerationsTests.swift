import ChanservHost
import Testing

@Suite struct GenerationsTests {
    typealias Ledger = Generations<String, Int>

    @Test func `requests get the current instance and their generation`() {
        var ledger = Ledger()
        #expect(ledger.current.number == 0)
        #expect(ledger.lead("x") == nil)
        equal(ledger.publish(["x": 1]), [])
        #expect(ledger.lead("x") == Ledger.Lead(generation: 1, instance: 1))
        equal(ledger.publish(["x": 1, "y": 2]), [])
        #expect(ledger.lead("x") == Ledger.Lead(generation: 2, instance: 1))
    }

    @Test func `a swap releases an instance that no route uses`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        equal(ledger.publish(["x": 2]), [.release(1)])
        #expect(ledger.lead("x") == Ledger.Lead(generation: 2, instance: 2))
        #expect(ledger.draining.isEmpty)
    }

    @Test func `an instance drains until the last removed route that uses it has left`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1, "y": 1, "z": 1])
        equal(ledger.publish(["z": 2]), [.drain(1)])
        #expect(ledger.draining == [1])
        equal(ledger.left("y"), nil)
        #expect(ledger.draining == [1])
        equal(ledger.left("x"), .release(1))
        #expect(ledger.draining.isEmpty)
    }

    @Test func `an instance that stays in use is neither drained nor released`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1, "y": 7])
        equal(ledger.publish(["x": 2, "y": 7]), [.release(1)])
        equal(ledger.publish(["x": 2]), [.drain(7)])
        _ = ledger.publish(["x": 2, "z": 2])
        equal(ledger.publish(["x": 2]), [])
        // The route has left, but its instance stays in use.
        equal(ledger.left("z"), nil)
        #expect(ledger.draining == [7])
    }

    @Test func `a removed route serves requests until it has left`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        equal(ledger.publish([:]), [.drain(1)])
        #expect(ledger.lead("x") == Ledger.Lead(generation: 2, instance: 1))
        equal(ledger.left("x"), .release(1))
        #expect(ledger.lead("x") == nil)
        equal(ledger.left("x"), nil)
    }

    @Test func `a prepared route serves as the next generation before the swap`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        ledger.prepare("y", 2)
        #expect(ledger.lead("y") == Ledger.Lead(generation: 2, instance: 2))
        #expect(ledger.current.routes == ["x": Ledger.Target(1)])
        equal(ledger.publish(["x": 1, "y": 2]), [])
        #expect(ledger.lead("y") == Ledger.Lead(generation: 2, instance: 2))
        equal(ledger.publish(["x": 1]), [.drain(2)])
        equal(ledger.left("y"), .release(2))
    }

    @Test func `an abandoned route serves no requests`() {
        var ledger = Ledger()
        ledger.prepare("y", 2)
        ledger.abandon("y")
        #expect(ledger.lead("y") == nil)
        ledger.prepare("y", 2)
        _ = ledger.publish([:])
        #expect(ledger.lead("y") == nil)
    }

    @Test func `a route that is added again is independent of the removed one`() {
        var ledger = Ledger()
        _ = ledger.publish(["x#1": 1])
        _ = ledger.publish([:])
        _ = ledger.publish(["x#2": 2])
        #expect(ledger.lead("x#1")?.instance == 1)
        #expect(ledger.lead("x#2")?.instance == 2)
    }

    /// Random histories. Each instance is released exactly once, when no route uses it.
    @Test(arguments: 0..<200)
    func `no instance is released while a route uses it, and all are released in the end`(seed: UInt64) {
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
                    #expect(!ledger.current.routes.values.contains { $0.current == instance || $0.standby == instance })
                    #expect(!leaving.contains { ledger.lead($0)?.instance == instance })
                }
            }
        }
        var next = 0
        func publish(_ count: Int) {
            var routes: [String: Ledger.Target] = [:]
            for (route, target) in ledger.current.routes.sorted(by: { $0.key < $1.key }) where random.chance(count) {
                switch random.next() % 4 {
                case 0: routes[route] = target
                case 1: routes[route] = Ledger.Target(next + 1, standby: target.current)
                case 2: routes[route] = Ledger.Target(target.standby ?? target.current)
                default: routes[route] = Ledger.Target(next + 1)
                }
            }
            if count > 0 { routes["r\(next)"] = Ledger.Target(next + 1) }
            if routes.values.contains(where: { $0.current == next + 1 }) {
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

    @Test func `the standby of a route answers the requests that are drawn for it`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": 1])
        equal(ledger.publish(["x": Ledger.Target(2, standby: 1)]), [])
        #expect(ledger.lead("x") { false } == Ledger.Lead(generation: 2, instance: 2))
        #expect(ledger.lead("x") { true } == Ledger.Lead(generation: 2, instance: 1))
    }

    @Test func `a standby that is given up is released and makes no generation`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": Ledger.Target(2, standby: 1)])
        equal(ledger.publish(["x": Ledger.Target(2)], isNewGeneration: false), [.release(1)])
        #expect(ledger.lead("x") { true } == Ledger.Lead(generation: 1, instance: 2))
    }

    @Test func `a route that returns to its standby releases the other instance`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": Ledger.Target(2, standby: 1), "y": Ledger.Target(2, standby: 1)])
        equal(ledger.publish(["x": Ledger.Target(1), "y": Ledger.Target(2, standby: 1)]), [])
        equal(ledger.publish(["x": Ledger.Target(1), "y": Ledger.Target(1)]), [.release(2)])
    }

    @Test func `requests on a route that is being unbound use its current instance`() {
        var ledger = Ledger()
        _ = ledger.publish(["x": Ledger.Target(2, standby: 1)])
        let actions = ledger.publish([:])
        #expect(Set(actions) == [.drain(2), .release(1)])
        #expect(ledger.lead("x") { true } == Ledger.Lead(generation: 2, instance: 2))
    }
}

/// A random generator with the same numbers in each run.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// True with the probability `(outOf - 1) / outOf`; always false for 0.
    mutating func chance(_ outOf: Int) -> Bool {
        outOf > 0 && next() % UInt64(outOf) != 0
    }
}

extension Generations {
    /// Publishes routes without a standby.
    @_disfavoredOverload
    fileprivate mutating func publish(_ routes: [Route: Instance]) -> [Action] {
        publish(routes.mapValues { Target($0) })
    }
}
