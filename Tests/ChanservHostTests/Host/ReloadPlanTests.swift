import ChanservHost
import Testing

@Suite struct ReloadPlanTests {
    typealias Route = PlannedRoute<Int>
    typealias Plan = ReloadPlan<Int>

    static let a1 = InstanceKey(plugin: "a", digest: "1", config: "{}")
    static let a2 = InstanceKey(plugin: "a", digest: "2", config: "{}")
    static let b1 = InstanceKey(plugin: "b", digest: "9", config: "{}")

    func route(_ vAddr: String, _ instance: InstanceKey, _ options: Int = 0) -> Route {
        Route(vAddr: vAddr, instance: instance, options: options)
    }

    @Test func `a start creates all instances and adds all routes in the order of the configuration`() {
        let wanted = [route("z", Self.b1), route("m", Self.a1), route("a", Self.b1)]
        let plan = Plan(running: [], wanted: wanted)
        #expect(plan.create == [Self.b1, Self.a1])
        #expect(plan.add == wanted)
        #expect(plan.update.isEmpty && plan.repoint.isEmpty && plan.remove.isEmpty && plan.retire.isEmpty)
        #expect(plan.untouchedRoutes.isEmpty && plan.untouchedInstances.isEmpty)
    }

    @Test func `an unchanged configuration is an empty plan`() {
        let routes = [route("x", Self.a1, 3), route("y", Self.b1)]
        let plan = Plan(running: routes, wanted: routes.reversed())
        #expect(plan.isEmpty)
        #expect(plan.untouchedRoutes == routes.reversed())
        #expect(plan.untouchedInstances == [Self.b1, Self.a1])
    }

    @Test func `changed options update the route and keep its instance`() {
        let plan = Plan(running: [route("x", Self.a1, 1)], wanted: [route("x", Self.a1, 2)])
        #expect(plan.update == [route("x", Self.a1, 2)])
        #expect(plan.untouchedInstances == [Self.a1])
        #expect(plan.create.isEmpty && plan.retire.isEmpty && plan.repoint.isEmpty && !plan.isEmpty)
    }

    @Test func `a new digest repoints all routes of its plugin and no others`() {
        let plan = Plan(
            running: [route("x", Self.a1), route("other", Self.b1), route("y", Self.a1, 1)],
            wanted: [route("x", Self.a2), route("other", Self.b1), route("y", Self.a2, 2)])
        #expect(plan.create == [Self.a2])
        #expect(plan.repoint == [route("x", Self.a2), route("y", Self.a2, 2)])
        #expect(plan.retire == [Self.a1])
        #expect(plan.untouchedRoutes == [route("other", Self.b1)])
        #expect(plan.untouchedInstances == [Self.b1])
        #expect(plan.update.isEmpty && plan.add.isEmpty && plan.remove.isEmpty)
    }

    @Test func `a change of the permission for inline calls replaces the instance`() {
        let threaded = InstanceKey(plugin: "a", digest: "1", config: "{}", allowsInline: false)
        let plan = Plan(running: [route("x", Self.a1)], wanted: [route("x", threaded)])
        #expect(plan.create == [threaded])
        #expect(plan.repoint == [route("x", threaded)])
        #expect(plan.retire == [Self.a1])
    }

    @Test func `an instance stays while one of its routes uses it`() {
        let plan = Plan(
            running: [route("x", Self.a1), route("y", Self.a1)],
            wanted: [route("x", Self.a1), route("y", Self.b1)])
        #expect(plan.retire.isEmpty)
        #expect(plan.untouchedInstances == [Self.a1])
        #expect(plan.create == [Self.b1])
        #expect(plan.repoint == [route("y", Self.b1)])
    }

    @Test func `removing the last route of an instance retires the instance`() {
        let plan = Plan(running: [route("x", Self.a1), route("y", Self.b1)], wanted: [route("y", Self.b1)])
        #expect(plan.remove == [route("x", Self.a1)])
        #expect(plan.retire == [Self.a1])
        #expect(plan.create.isEmpty && plan.add.isEmpty)
    }

    @Test func `a renamed route keeps its instance`() {
        let plan = Plan(running: [route("x", Self.a1)], wanted: [route("y", Self.a1)])
        #expect(plan.add == [route("y", Self.a1)])
        #expect(plan.remove == [route("x", Self.a1)])
        #expect(plan.untouchedInstances == [Self.a1])
        #expect(plan.create.isEmpty && plan.retire.isEmpty)
    }

    @Test func `exchanging the instances of two routes creates none`() {
        let plan = Plan(
            running: [route("x", Self.a1), route("y", Self.b1)], wanted: [route("x", Self.b1), route("y", Self.a1)])
        #expect(plan.repoint.count == 2)
        #expect(plan.create.isEmpty && plan.retire.isEmpty)
    }

    /// Every pair of small configurations: two vAddrs, each absent or with one of two instances and two options.
    @Test func `each plan turns the running routes into the wanted ones and touches no others`() {
        let choices: [(InstanceKey, Int)?] = [nil, (Self.a1, 0), (Self.a1, 1), (Self.b1, 0), (Self.b1, 1)]
        var configurations: [[Route]] = []
        for x in choices {
            for y in choices {
                configurations.append(
                    [("x", x), ("y", y)].compactMap { name, choice in choice.map { route(name, $0.0, $0.1) } })
            }
        }
        for running in configurations {
            for wanted in configurations {
                let plan = Plan(running: running, wanted: wanted)
                var routes = Dictionary(uniqueKeysWithValues: running.map { ($0.vAddr, $0) })
                for old in plan.remove {
                    let removed = routes.removeValue(forKey: old.vAddr)
                    #expect(removed == old)
                }
                for new in plan.update + plan.repoint {
                    let old = routes.updateValue(new, forKey: new.vAddr)
                    #expect(old != nil && old != new)
                    #expect((old?.instance == new.instance) == plan.update.contains(new))
                }
                for new in plan.add {
                    let old = routes.updateValue(new, forKey: new.vAddr)
                    #expect(old == nil)
                }
                #expect(routes == Dictionary(uniqueKeysWithValues: wanted.map { ($0.vAddr, $0) }))
                let touched = plan.add + plan.update + plan.repoint
                #expect(Set(touched).isDisjoint(with: plan.untouchedRoutes))
                let instances = Set(running.map(\.instance)).union(plan.create).subtracting(plan.retire)
                #expect(instances == Set(wanted.map(\.instance)))
                #expect(plan.isEmpty == (Set(running) == Set(wanted)))
            }
        }
    }
}
