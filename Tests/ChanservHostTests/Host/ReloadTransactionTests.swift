import ChanservHost
import Testing

@Suite struct ReloadTransactionTests {
    typealias Action = ReloadTransaction.Action

    static let keys = ["a", "b", "c"].map { InstanceKey(plugin: $0, digest: "0", config: "{}") }
    static let vAddrs = ["x", "y"]

    /// Runs a transaction in which the actions in `failing` fail, and returns all actions that it requested.
    func run(_ transaction: ReloadTransaction, failing: Set<Action> = []) -> [Action] {
        var transaction = transaction
        var actions: [Action] = []
        var action = transaction.start()
        while true {
            actions.append(action)
            switch action {
            case .finish, .refuse: return actions
            default:
                action = failing.contains(action) ? transaction.failed("\(action)") : transaction.succeeded()
            }
        }
    }

    @Test func `all new instances are created and all new routes bound before the swap`() {
        let actions = run(ReloadTransaction(create: Self.keys, bind: Self.vAddrs))
        #expect(actions == Self.keys.map(Action.create) + Self.vAddrs.map(Action.bind) + [.commit, .finish])
    }

    @Test func `a transaction without new instances and routes is only the swap`() {
        #expect(run(ReloadTransaction(create: [], bind: [])) == [.commit, .finish])
    }

    @Test(arguments: keys.indices)
    func `a failed create destroys the other instances in reverse order and binds nothing`(index: Int) {
        let failing = Action.create(Self.keys[index])
        let actions = run(ReloadTransaction(create: Self.keys, bind: Self.vAddrs), failing: [failing])
        var made = Self.keys
        made.remove(at: index)
        let destroyed = made.reversed().map(Action.destroy)
        #expect(actions == Self.keys.map(Action.create) + destroyed + [.refuse(["\(failing)"])])
    }

    @Test(arguments: vAddrs.indices)
    func `a failed bind unbinds the other routes and destroys all instances in reverse order`(index: Int) {
        let failing = Action.bind(Self.vAddrs[index])
        let actions = run(ReloadTransaction(create: Self.keys, bind: Self.vAddrs), failing: [failing])
        let bound = Self.vAddrs[..<index]
        let expected =
            Self.keys.map(Action.create) + Self.vAddrs[...index].map(Action.bind)
            + bound.reversed().map(Action.unbind) + Self.keys.reversed().map(Action.destroy)
            + [.refuse(["\(failing)"])]
        #expect(actions == expected)
    }

    @Test func `all failures of one attempt are reported`() {
        let failing: Set<Action> = [.create(Self.keys[0]), .create(Self.keys[2])]
        let actions = run(ReloadTransaction(create: Self.keys, bind: Self.vAddrs), failing: failing)
        #expect(actions.last == .refuse(["\(Action.create(Self.keys[0]))", "\(Action.create(Self.keys[2]))"]))
        #expect(actions.dropLast().last == .destroy(Self.keys[1]))
    }

    @Test func `a dry run creates and destroys all instances without binding or swapping`() {
        let actions = run(ReloadTransaction(create: Self.keys, bind: Self.vAddrs, dryRun: true))
        #expect(actions == Self.keys.map(Action.create) + Self.keys.reversed().map(Action.destroy) + [.finish])
    }

    @Test func `a dry run reports failures`() {
        let failing = Action.create(Self.keys[1])
        let actions = run(ReloadTransaction(create: Self.keys, bind: [], dryRun: true), failing: [failing])
        #expect(actions.last == .refuse(["\(failing)"]))
    }

    /// Abandons the transaction after each possible number of steps.
    @Test(arguments: 0...5) func `an abandoned transaction undoes exactly the steps that it has done`(steps: Int) {
        var transaction = ReloadTransaction(create: Self.keys, bind: Self.vAddrs)
        var made: [Action] = []
        var action = transaction.start()
        for _ in 0..<steps {
            made.append(action)
            action = transaction.succeeded()
        }
        action = transaction.abandon("stopping")
        for done in made.reversed() {
            switch done {
            case .create(let key): #expect(action == .destroy(key))
            case .bind(let vAddr): #expect(action == .unbind(vAddr))
            default: Issue.record("\(done) cannot be undone")
            }
            action = transaction.succeeded()
        }
        #expect(action == .refuse(["stopping"]))
    }
}
